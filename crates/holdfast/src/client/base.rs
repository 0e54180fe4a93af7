//! The gateway's address: scheme, host, port and what stands before its paths.

use std::fmt;

use http::Uri;

/// `http://127.0.0.1:4000`, or a place behind a proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Base {
    pub(super) tls: bool,
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    /// As it goes into `Host`.
    pub(super) authority: String,
    /// Before the API's paths; without a `/` at its end.
    pub(super) prefix: String,
}

impl Base {
    /// The error says what is wrong, with a line of help.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            let shown: String = text.chars().take(100).collect();
            format!(
                "`{shown}` is no address of a gateway: {what}\nhelp: it looks like `http://127.0.0.1:4000`"
            )
        };
        let uri: Uri = text.trim().parse().map_err(|_| wrong("it is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it begins with `http://` or `https://`")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a key goes into `--key`, not into the URL"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has no query"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        Ok(Self {
            tls,
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |text| {
            let base = Base::parse(text).unwrap();
            (base.tls, base.host, base.port, base.prefix)
        };
        let local = (false, "127.0.0.1".to_owned(), 4000, String::new());
        assert_eq!(parts("http://127.0.0.1:4000"), local);
        assert_eq!(parts(" http://127.0.0.1:4000/ "), local);
        let proxied = (true, "hold.example".to_owned(), 443, "/fast".to_owned());
        assert_eq!(parts("https://hold.example/fast/"), proxied);
        let six = (false, "::1".to_owned(), 80, String::new());
        assert_eq!(parts("http://[::1]"), six);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (text, why) in [
            ("", "not a URL"),
            ("127.0.0.1:4000", "begins with"),
            ("ftp://host", "begins with"),
            ("http://key@host", "--key"),
            ("http://host/?a=b", "query"),
            ("/v1", "begins with"),
        ] {
            let told = Base::parse(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
