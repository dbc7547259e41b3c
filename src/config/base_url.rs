//! Where a provider is reached: an absolute URL that holds nothing secret.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml::Value;

use super::reader::{Parsed, Refusal};

/// A provider's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseUrl {
    /// Without a trailing slash.
    pub(super) text: String,
    /// Plain http to a host that is neither this machine nor in a private network: keys and prompts would
    /// cross foreign networks in the clear.
    pub(super) insecure: bool,
}

/// Reads a base URL: http or https, without user, password, query and fragment.
///
/// A URL that looks as if it held a secret is not repeated in the problem.
pub(super) fn base_url(value: &Value) -> Parsed<BaseUrl> {
    let expected = "expected an http or https URL without user, password, query and fragment, \
                    for example \"https://api.example.org/v1\"";
    value.as_str().and_then(parse).ok_or_else(|| {
        if value.to_string().contains(['@', '?', '#']) {
            Refusal::hiding_value(format!("{expected} (the value is not shown, it may hold a secret)"))
        } else {
            expected.into()
        }
    })
}

fn parse(url: &str) -> Option<BaseUrl> {
    let (scheme, rest) = url.split_once("://")?;
    let plain = match scheme {
        "https" => false,
        "http" => true,
        _ => return None,
    };
    let forbidden = |byte: u8| !byte.is_ascii_graphic() || b"@?#\\\"<>`{|}^".contains(&byte);
    if rest.bytes().any(forbidden) {
        return None;
    }
    let host = host(rest.split('/').next().unwrap_or_default())?;
    Some(BaseUrl { text: url.trim_end_matches('/').to_owned(), insecure: plain && !is_near(host) })
}

/// The host of `host[:port]`; `None` when either is not well formed.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (name, port) = authority.split_at(end);
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)).then_some((name, port))?
        }
    };
    let port_is_right =
        port.is_empty() || port.strip_prefix(':')?.parse::<u16>().is_ok_and(|number| number > 0);
    (!host.is_empty() && port_is_right).then_some(host)
}

/// Whether a host is this machine or an address of a private network.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => is_near_v4(address),
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => is_near_v4(mapped),
            None => address.is_loopback() || address.is_unique_local(),
        },
        Err(_) => {
            let host = host.to_ascii_lowercase();
            // RFC 6761 §6.3: names under localhost are this machine.
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

fn is_near_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_private()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_slash_is_stripped() {
        assert_eq!(parse("https://x.org/v1/").map(|url| url.text), Some("https://x.org/v1".to_owned()));
        assert_eq!(parse("https://x.org").map(|url| url.text), Some("https://x.org".to_owned()));
    }

    #[test]
    fn malformed_urls_are_refused() {
        for wrong in [
            "",
            "x.org/v1",
            "ftp://x.org",
            "https://",
            "https:///v1",
            "https://u:p@x.org",
            "https://x.org?key=1",
            "https://x.org/#a",
            "https://x.org:0",
            "https://x.org:70000",
            "https://x.org:",
            "https://[::1/v1",
            "https://[zz]/v1",
            "https://x .org",
            "https://x\\y",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn plain_http_is_insecure_beyond_private_networks() {
        for near in [
            "http://127.0.0.1:8080/v1",
            "http://localhost",
            "http://api.localhost",
            "http://10.1.2.3",
            "http://172.16.0.1",
            "http://192.168.1.1",
            "http://[::1]:11434/v1",
            "http://[fd00::1]",
            "http://[::ffff:10.0.0.1]",
            "https://example.org",
        ] {
            assert_eq!(parse(near).map(|url| url.insecure), Some(false), "{near}");
        }
        for far in [
            "http://example.org",
            "http://8.8.8.8",
            "http://172.32.0.1",
            "http://169.254.169.254",
            "http://ollama:11434",
            "http://127.0.0.1.example.org",
            "http://[2001:db8::1]",
            "http://2130706433",
        ] {
            assert_eq!(parse(far).map(|url| url.insecure), Some(true), "{far}");
        }
    }

    #[test]
    fn a_refused_url_with_a_secret_is_hidden() {
        let refused = base_url(&Value::String("https://user:hunter2@x.org".to_owned()));
        assert!(!format!("{:?}", refused).contains("hunter2"));
        assert!(matches!(refused, Err(refusal) if refusal == Refusal::hiding_value(
            "expected an http or https URL without user, password, query and fragment, for example \
             \"https://api.example.org/v1\" (the value is not shown, it may hold a secret)"
        )));
    }
}
