//! Changes of the membership, by the rules that Apache's servers were seen to follow.

use super::*;

const THREE: &str = "server.1=h1:1:2:participant;h1:3\nserver.2=h2:1:2:participant;h2:3\n\
                     server.3=h3:1:2:participant;0.0.0.0:3\nversion=100000000";

fn three() -> Dynamic {
    Dynamic::parse(THREE.as_bytes()).unwrap()
}

fn request(joining: &str, leaving: &str, whole: &str) -> ReconfigRequest {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ReconfigRequest {
        joining: given(joining),
        leaving: given(leaving),
        new_members: given(whole),
        current_config: -1,
    }
}

fn change(joining: &str, leaving: &str) -> Result<String, DynamicError> {
    let changed = three().change(&request(joining, leaving, ""), Zxid::new(1, 4), 2)?;
    Ok(changed.to_string())
}

#[test]
fn a_text_is_written_as_it_was_read() {
    assert_eq!(three().to_string(), THREE);
    let odd = "server.10=h:1:2\nserver.9=[::1]:1:2:observer;;h:7\ngroup.1=10\nweight.10=3\nversion=0";
    let odd = Dynamic::parse(odd.as_bytes()).unwrap();
    assert_eq!(
        odd.to_string(),
        "server.9=[::1]:1:2:observer;;h:7\nserver.10=h:1:2:participant\ngroup.1=10\nweight.10=3\nversion=0"
    );
    assert_eq!(
        odd.file_text(),
        "group.1=10\nserver.10=h:1:2:participant\nserver.9=[::1]:1:2:observer;;h:7\nweight.10=3"
    );
}

#[test]
fn servers_leave_join_and_change() {
    assert_eq!(
        change("server.4=h4:1:2:observer;3", "2").unwrap(),
        "server.1=h1:1:2:participant;h1:3\nserver.3=h3:1:2:participant;0.0.0.0:3\n\
         server.4=h4:1:2:observer;0.0.0.0:3\nversion=100000004"
    );
    let same = change("server.3=h3:1:2:observer;0.0.0.0:3", "").unwrap();
    assert!(same.contains("server.3=h3:1:2:observer;0.0.0.0:3\n"), "{same}");
    assert_eq!(
        change("", "9").unwrap(),
        THREE.replace("100000000", "100000004"),
        "who is not there may leave"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (joining, leaving) in [
        ("server.4=h4:1:2", ""),
        ("server.4", ""),
        ("server.x=h4:1:2;3", ""),
        ("server.4=h4:1:2:leader;3", ""),
        ("server.4=h1:1:5;6", ""),
        ("server.4=h4:1:5;h2:3", ""),
        ("server.4=h4\nserver.5=h5:1:2:participant:1:2;3", ""),
        ("server.4=h\u{fc}:1:2;3", ""),
        ("server.4==:1:2;3", ""),
        ("", "one"),
        ("", "1,2"),
    ] {
        let refused = change(joining, leaving);
        assert!(refused.is_err(), "{joining} {leaving}: {refused:?}");
    }
}

#[test]
fn a_whole_list_may_come_in_lines_or_with_commas() {
    let of = |whole: &str| three().change(&request("", "", whole), Zxid::new(2, 1), 1);
    let lines = of("server.1=h1:1:2;3\nserver.5=h5:1:2:observer;3").unwrap();
    let commas = of("server.1=h1:1:2;3,server.5=h5:1:2:observer;3").unwrap();
    assert_eq!(lines, commas);
    assert_eq!((lines.version, lines.members.len()), (Zxid::new(2, 1).0, 2));
    assert!(of("server.5=h5:1:2:observer;3").is_err() && of("clientPort=1").is_err());
}

#[test]
fn groups_take_whole_lists_only_and_must_hold_every_voter() {
    let grouped = "server.1=h1:1:2;3\nserver.2=h2:1:2;3\ngroup.1=1:2\nversion=5";
    let grouped = Dynamic::parse(grouped.as_bytes()).unwrap();
    assert_eq!(grouped.change(&request("", "1", ""), Zxid(6), 1), Err(DynamicError::Grouped));
    assert!(grouped.to_members().unwrap().quorum.is_quorum(&[1, 2].map(PeerId)));
    let whole = grouped.change(&request("", "", "server.1=h1:1:2;3\ngroup.1=2"), Zxid(6), 1).unwrap();
    assert_eq!(whole.to_members(), Err(DynamicError::NotGrouped(ServerId(1))));
}
