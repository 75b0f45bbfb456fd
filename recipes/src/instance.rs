//! One instance of a service, and its bytes as Curator writes them; computes only.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

/// The member of a payload that names its Java class.
const CLASS: &str = "@class";

/// What becomes of an instance when its program is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ServiceType {
    /// It goes with the session of who registered it.
    #[default]
    Dynamic,
    /// It stays until it is unregistered.
    Static,
    /// As [`ServiceType::Static`]; Curator has two words for it.
    Permanent,
    /// As [`ServiceType::Dynamic`], and its node gets a name of its own, so that one id can be registered many times.
    DynamicSequential,
}

impl ServiceType {
    /// Whether it outlives the program.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        matches!(self, ServiceType::Static | ServiceType::Permanent)
    }

    fn lower_case(self) -> &'static str {
        match self {
            ServiceType::Dynamic => "dynamic",
            ServiceType::Static => "static",
            ServiceType::Permanent => "permanent",
            ServiceType::DynamicSequential => "dynamic_sequential",
        }
    }
}

/// How the address of an instance is made from its parts: text, and names in braces. The names are Curator's: `scheme`
/// (`https` where there is a port for it, else `http`), `address`, `port`, `ssl-port`, `name`, `id`,
/// `registration-time-utc`, `service-type`, and `[` and `]` for braces. Any other is left empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UriSpec {
    parts: Vec<UriPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct UriPart {
    value: String,
    variable: bool,
}

impl UriSpec {
    /// Reads a text such as `{scheme}://{address}:{port}/search`. A brace that is never closed is text.
    #[must_use]
    pub fn new(text: &str) -> UriSpec {
        let (mut parts, mut rest) = (Vec::new(), text);
        let mut push = |value: &str, variable| {
            if !value.is_empty() || variable {
                parts.push(UriPart { value: value.to_owned(), variable });
            }
        };
        while let Some((before, behind)) = rest.split_once('{')
            && let Some((name, after)) = behind.split_once('}')
        {
            push(before, false);
            push(name.trim(), true);
            rest = after;
        }
        push(rest, false);
        UriSpec { parts }
    }

    /// The address of an instance.
    #[must_use]
    pub fn build<T>(&self, instance: &ServiceInstance<T>) -> String {
        let port = |port: Option<u16>| port.map_or(String::new(), |port| port.to_string());
        let variable = |name: &str| match name {
            "scheme" => if instance.ssl_port.is_some() { "https" } else { "http" }.to_owned(),
            "address" => instance.address.clone().unwrap_or_default(),
            "port" => port(instance.port),
            "ssl-port" => port(instance.ssl_port),
            "name" => instance.name.clone(),
            "id" => instance.id.clone(),
            "registration-time-utc" => instance.registration_time_utc.to_string(),
            "service-type" => instance.service_type.lower_case().to_owned(),
            "[" => "{".to_owned(),
            "]" => "}".to_owned(),
            _ => String::new(),
        };
        let text = |part: &UriPart| if part.variable { variable(&part.value) } else { part.value.clone() };
        self.parts.iter().map(text).collect()
    }
}

/// One instance of a service, as Curator's class of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInstance<T> {
    /// The service.
    pub name: String,
    /// The instance, unique within its service.
    pub id: String,
    /// Its host.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Its port for TLS.
    pub ssl_port: Option<u16>,
    /// What else there is to say of it.
    pub payload: Option<T>,
    /// The Java class of the payload, where a Java program wrote it or shall read it as that class. A payload without one
    /// is a `LinkedHashMap` to Java if it is an object.
    pub payload_class: Option<String>,
    /// When it was registered by its own clock, in milliseconds since 1970.
    pub registration_time_utc: i64,
    /// What becomes of it when its program is gone.
    pub service_type: ServiceType,
    /// How its address is written.
    pub uri_spec: Option<UriSpec>,
    /// Whether it wants to be picked. Told to others only where it does not, as older programs do not know of it.
    pub enabled: bool,
}

impl<T> ServiceInstance<T> {
    /// An instance of this service with an id of its own, dynamic, enabled, registered now.
    #[must_use]
    pub fn new(name: impl Into<String>) -> ServiceInstance<T> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        ServiceInstance {
            name: name.into(),
            id: Uuid::new_v4().hyphenated().to_string(),
            address: None,
            port: None,
            ssl_port: None,
            payload: None,
            payload_class: None,
            registration_time_utc: i64::try_from(now).unwrap_or(i64::MAX),
            service_type: ServiceType::default(),
            uri_spec: None,
            enabled: true,
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> ServiceInstance<T> {
        self.id = id.into();
        self
    }

    /// Sets host and port.
    #[must_use]
    pub fn at(mut self, address: impl Into<String>, port: u16) -> ServiceInstance<T> {
        (self.address, self.port) = (Some(address.into()), Some(port));
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: T) -> ServiceInstance<T> {
        self.payload = Some(payload);
        self
    }

    /// Sets what becomes of it when its program is gone.
    #[must_use]
    pub fn service_type(mut self, service_type: ServiceType) -> ServiceInstance<T> {
        self.service_type = service_type;
        self
    }

    /// Sets how its address is written; see [`UriSpec::new`].
    #[must_use]
    pub fn uri_spec(mut self, text: &str) -> ServiceInstance<T> {
        self.uri_spec = Some(UriSpec::new(text));
        self
    }

    /// Its address as its [`UriSpec`] says; `None` when it has none.
    #[must_use]
    pub fn uri(&self) -> Option<String> {
        self.uri_spec.as_ref().map(|spec| spec.build(self))
    }
}

/// The members in Curator's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    name: &'a str,
    id: &'a str,
    address: Option<&'a str>,
    port: Option<u16>,
    ssl_port: Option<u16>,
    payload: Option<Value>,
    #[serde(rename = "registrationTimeUTC")]
    registration_time_utc: i64,
    service_type: ServiceType,
    uri_spec: Option<&'a UriSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

/// Members may be missing, and there may be others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    name: String,
    id: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    ssl_port: Option<u16>,
    #[serde(default)]
    payload: Option<Value>,
    #[serde(default, rename = "registrationTimeUTC")]
    registration_time_utc: i64,
    #[serde(default)]
    service_type: Option<ServiceType>,
    #[serde(default)]
    uri_spec: Option<UriSpec>,
    #[serde(default)]
    enabled: Option<bool>,
}

/// As Curator's `JsonInstanceSerializer` writes it.
impl<T: Serialize> Serialize for ServiceInstance<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let payload = self.payload.as_ref().map(serde_json::to_value).transpose();
        let mut payload = payload.map_err(serde::ser::Error::custom)?;
        if let (Some(Value::Object(members)), Some(class)) = (&mut payload, &self.payload_class) {
            members.insert(CLASS.to_owned(), Value::String(class.clone()));
        }
        let written = Written {
            name: &self.name,
            id: &self.id,
            address: self.address.as_deref(),
            port: self.port,
            ssl_port: self.ssl_port,
            payload,
            registration_time_utc: self.registration_time_utc,
            service_type: self.service_type,
            uri_spec: self.uri_spec.as_ref(),
            enabled: (!self.enabled).then_some(false),
        };
        written.serialize(serializer)
    }
}

/// As Curator's `JsonInstanceSerializer` reads it; what it does not know is passed over.
impl<'de, T: DeserializeOwned> Deserialize<'de> for ServiceInstance<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ServiceInstance<T>, D::Error> {
        let read = Read::deserialize(deserializer)?;
        let mut payload = read.payload;
        let class = match &mut payload {
            Some(Value::Object(members)) => members.remove(CLASS),
            _ => None,
        };
        let payload_class = class.and_then(|class| class.as_str().map(str::to_owned));
        let payload = payload.map(serde_json::from_value).transpose().map_err(serde::de::Error::custom)?;
        Ok(ServiceInstance {
            name: read.name,
            id: read.id,
            address: read.address,
            port: read.port,
            ssl_port: read.ssl_port,
            payload,
            payload_class,
            registration_time_utc: read.registration_time_utc,
            service_type: read.service_type.unwrap_or_default(),
            uri_spec: read.uri_spec,
            enabled: read.enabled.unwrap_or(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Meta {
        a: String,
        b: u32,
    }

    fn instance<T>() -> ServiceInstance<T> {
        let mut instance = ServiceInstance::new("search").id("one").at("10.0.0.1", 80);
        instance.registration_time_utc = 1_700_000_000_000;
        instance
    }

    fn written<T: Serialize>(instance: &ServiceInstance<T>) -> String {
        serde_json::to_string(instance).expect("text and numbers")
    }

    /// What Curator 5.4 writes for the same instances.
    const PLAIN: &str = r#"{"name":"search","id":"one","address":"10.0.0.1","port":80,"sslPort":null,"payload":null,"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":null}"#;
    const FULL: &str = r#"{"name":"search","id":"one","address":"10.0.0.1","port":80,"sslPort":443,"payload":"text","registrationTimeUTC":1700000000000,"serviceType":"STATIC","uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true},{"value":"/x","variable":false}]},"enabled":false}"#;

    #[test]
    fn the_bytes_are_those_of_curator() {
        let plain: ServiceInstance<String> = instance();
        assert_eq!(written(&plain), PLAIN);
        let mut full = instance().payload("text".to_owned()).service_type(ServiceType::Static);
        full = full.uri_spec("{scheme}://{address}:{port}/x");
        (full.ssl_port, full.enabled) = (Some(443), false);
        assert_eq!(written(&full), FULL);
        for instance in [plain, full] {
            let read: ServiceInstance<String> =
                serde_json::from_str(&written(&instance)).expect("what was written");
            assert_eq!(read, instance);
        }
    }

    #[test]
    fn a_class_of_java_stays_with_the_payload() {
        let bytes = r#"{"name":"n","id":"i","payload":{"@class":"G$P","a":"x","b":3},"zone":1,"serviceType":"PERMANENT"}"#;
        let read: ServiceInstance<Meta> = serde_json::from_str(bytes).expect("an instance");
        assert_eq!(read.payload, Some(Meta { a: "x".into(), b: 3 }));
        assert_eq!((read.payload_class.as_deref(), read.port, read.enabled), (Some("G$P"), None, true));
        assert!(read.service_type.is_permanent());
        let written = written(&read);
        assert!(written.contains(r#""payload":{"@class":"G$P","a":"x","b":3}"#), "{written}");
    }

    #[test]
    fn addresses_are_written_as_curator_writes_them() {
        let mut instance: ServiceInstance<()> = instance();
        let build = |text: &str, instance: &ServiceInstance<()>| UriSpec::new(text).build(instance);
        assert_eq!(build("{scheme}://{address}:{port}", &instance), "http://10.0.0.1:80");
        instance.ssl_port = Some(443);
        let all = "{scheme}:{ssl-port}/{name}/{id}/{service-type}/{registration-time-utc}";
        assert_eq!(build(all, &instance), "https:443/search/one/dynamic/1700000000000");
        assert_eq!(build("a{[}b{]}c", &instance), "a{b}c");
        assert_eq!(build("{other}/x", &instance), "/x");
        assert_eq!(build("open{end", &instance), "open{end");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in ".{0,40}") {
            let _ = serde_json::from_slice::<ServiceInstance<Value>>(&bytes);
            let _ = UriSpec::new(&text).build(&instance::<()>());
        }
    }
}
