//! The subject of a certificate as text, in the form in which Java prints it (RFC 2253): that is what ACLs name.
//!
//! Only certificates come here whose signature is checked, so what does not look as it should is refused as a whole.

/// What is read of a certificate: tag, content, and what is behind it.
type Element<'a> = (u8, &'a [u8], &'a [u8]);

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
/// UTF-8, Printable, T61, IA5, General, Universal and BMP.
const TEXTS: [u8; 7] = [0x0c, 0x13, 0x14, 0x16, 0x1b, 0x1c, 0x1e];

/// The attributes that have a name in this form; others are numbers.
const NAMED: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The subject of a certificate in DER.
pub(super) fn of_certificate(der: &[u8]) -> Option<String> {
    let certificate = content(SEQUENCE, der)?.0;
    let mut rest = content(SEQUENCE, certificate)?.0;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    of_name(content(SEQUENCE, rest)?.0)
}

/// The parts from the last to the first, as the form has it.
fn of_name(mut name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let (mut part, rest) = content(SET, name)?;
        let mut pairs = Vec::new();
        while !part.is_empty() {
            let (pair, further) = content(SEQUENCE, part)?;
            pairs.push(of_pair(pair)?);
            part = further;
        }
        parts.push(pairs.join("+"));
        name = rest;
    }
    parts.reverse();
    Some(parts.join(","))
}

fn of_pair(pair: &[u8]) -> Option<String> {
    let (number, encoded) = content(OID, pair)?;
    let number = dotted(number)?;
    let (tag, value, rest) = element(encoded)?;
    let whole = &encoded[..encoded.len() - rest.len()];
    let hex = || whole.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name = NAMED.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    Some(match name {
        None => format!("{number}=#{}", hex()),
        Some(name) if !TEXTS.contains(&tag) => format!("{name}=#{}", hex()),
        Some(name) => format!("{name}={}", escaped(&String::from_utf8_lossy(value))),
    })
}

/// What would be taken for a separator gets a backslash, and so do blanks at both ends.
fn escaped(text: &str) -> String {
    let is_blank = |char: char| matches!(char, ' ' | '\r');
    let lead = text.chars().take_while(|char| is_blank(*char)).count();
    let last = text.chars().count() - text.chars().rev().take_while(|char| is_blank(*char)).count();
    let mut out = String::with_capacity(text.len());
    for (at, char) in text.chars().enumerate() {
        if char == '\0' {
            out.push_str("\\00");
            continue;
        }
        if ",=+<>#;\"\\".contains(char) || at < lead || at >= last {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

fn dotted(bytes: &[u8]) -> Option<String> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for byte in bytes {
        arc = arc.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let (first, others) = arcs.split_first()?;
    let top = (first / 40).min(2);
    let mut text = format!("{top}.{}", first - 40 * top);
    for arc in others {
        text.push_str(&format!(".{arc}"));
    }
    Some(text)
}

/// The content of an element that must have this tag, and what is behind it.
fn content(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

fn element(der: &[u8]) -> Option<Element<'_>> {
    let [tag, length, rest @ ..] = der else { return None };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|char| char.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    /// Names that openssl wrote and Java 17 printed.
    #[test]
    fn names_are_printed_as_java_prints_them() {
        for (name, text) in NAMES {
            assert_eq!(of_name(&bytes(name)).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_certificate_has_its_subject_read_and_cut_bytes_have_none() {
        let der = bytes(CERTIFICATE);
        assert_eq!(of_certificate(&der).as_deref(), Some("CN=client,O=Docent"));
        for end in 0..der.len() {
            // A cut is an error or, behind the subject, no matter; it is never a panic.
            let _ = of_certificate(&der[..end]);
        }
        assert_eq!(of_certificate(&der[..40]), None);
        assert_eq!(of_certificate(b"\x30\x84\xff\xff\xff\xff"), None);
    }

    const NAMES: [(&str, &str); 6] = [
        (
            "310b30090603550406130244453114301206035504080c0b536f6d652c205374617465310a3008060355040a0c014131 \
             12301006035504030c09636c69656e742023313114301206092a864886f70d01090116056140622e6331123010060a09 \
             92268993f22c6401010c027531",
            r###"UID=u1,1.2.840.113549.1.9.1=#16056140622e63,CN=client \#1,O=A,ST=Some\, State,C=DE"###,
        ),
        ("3115301306035504030c0c206c65616420747261696c20", r###"CN=\ lead trail\ "###),
        (
            "310e300c06035504030c05c39c6ec3af31133011060355040a0c0ac384223c3e3d233b5c78",
            r###"O=Ä\"\<\>\=\#\;\\x,CN=Ünï"###,
        ),
        (
            "3110300e06035504090c074d61696e205374310c300a06035504080c03426179310d300b06035504070c044369747931 \
             133011060a0992268993f22c6401191603636f6d31123010060a0992268993f22c64011916026578310b300906035504 \
             0613024445",
            r###"C=DE,DC=ex,DC=com,L=City,ST=Bay,STREET=Main St"###,
        ),
        (
            "310a30080603550405130137310c300a060355042a0c03416e6e310c300a06035504040c034c6565310a300806035504 \
             030c0178",
            r###"CN=x,2.5.4.4=#0c034c6565,2.5.4.42=#0c03416e6e,2.5.4.5=#130137"###,
        ),
        (
            "3114300806035504030c01613008060355040b0c0162310e300c060355040a0c052368617368",
            r###"O=\#hash,CN=a+OU=b"###,
        ),
    ];

    const CERTIFICATE: &str = "\
        308201993082013fa0030201020214728824c1f2958b51bc2155db3a7458cd1c44d7ee300a06082a8648ce3d04030230 \
        22310f300d060355040a0c06446f63656e74310f300d06035504030c06636c69656e74301e170d323631313232303231 \
        3334395a170d3336313131393032313334395a3022310f300d060355040a0c06446f63656e74310f300d06035504030c \
        06636c69656e743059301306072a8648ce3d020106082a8648ce3d03010703420004bb9d3aa6f75657be5e89dd84744d \
        475df9d47d3c5f2e9691849c97222d0d0edd3a989930c063786e9f9e5cf3c71b786008f7824ffcf4a1ff82a16f49e6b7 \
        2554a3533051301d0603551d0e0416041425502402cf6c1b8811cc0f54317f20f66def20f5301f0603551d2304183016 \
        801425502402cf6c1b8811cc0f54317f20f66def20f5300f0603551d130101ff040530030101ff300a06082a8648ce3d \
        0403020348003045022100cd404da093e184276a0231d12b3b899dab8f759f22479f7046c89e179574f3ec0220649cdc \
        74cf39f08fc99d5f27f51ed9affc696e2f612966e4f74f925d5788224c \
    ";
}
