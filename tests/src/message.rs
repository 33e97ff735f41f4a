//! Heads and whole messages as a peer sees them. Written for exactness, not speed, and apart from `proto` on purpose.

/// The fields of a head or a trailer section, in order, spelled as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of `name`, whatever its case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, whatever its case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether `name` is there, whatever its case.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Parses the lines of a field section (without its empty line).
    ///
    /// # Panics
    ///
    /// On anything that is no field line: what the gateway sends must be strict.
    pub fn parse(section: &[u8]) -> Fields {
        let text = String::from_utf8_lossy(section);
        let lines = text.split("\r\n").filter(|line| !line.is_empty());
        Fields(
            lines
                .map(|line| {
                    assert!(!line.contains('\n') && !line.contains('\r'), "a bare CR or LF in {line:?}");
                    let (name, value) =
                        line.split_once(':').unwrap_or_else(|| panic!("no colon in {line:?}"));
                    assert!(!name.is_empty() && !name.contains([' ', '\t']), "a bad field name in {line:?}");
                    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
                })
                .collect(),
        )
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// After so many bytes.
    Fixed(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// A request as an origin saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target as it stood in the request line.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// The header fields.
    pub fields: Fields,
    /// The body, decoded; empty until it was read.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The whole head as it came, with its empty line.
    pub raw_head: Vec<u8>,
    /// The number of the connection it came over, from 0.
    pub connection: usize,
}

impl Request {
    /// Parses a whole head.
    ///
    /// # Panics
    ///
    /// When the request line is not three words.
    pub fn parse(raw_head: Vec<u8>, connection: usize) -> Request {
        let (line, fields) = split(&raw_head);
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), 3, "a request line has three words: {line:?}");
        Request {
            method: words[0].to_owned(),
            target: words[1].to_owned(),
            version: words[2].to_owned(),
            fields,
            body: Vec::new(),
            trailers: Fields::default(),
            raw_head,
            connection,
        }
    }

    /// How its body ends.
    pub fn length(&self) -> Length {
        length(&self.fields).unwrap_or(Length::None)
    }
}

/// A response as a client saw it.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// What stood after it.
    pub reason: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// The header fields.
    pub fields: Fields,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Fields,
    /// The whole head as it came, with its empty line.
    pub raw_head: Vec<u8>,
}

impl Response {
    /// Parses a whole head.
    ///
    /// # Panics
    ///
    /// When the status line is none.
    pub fn parse(raw_head: Vec<u8>) -> Response {
        let (line, fields) = split(&raw_head);
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
        Response {
            status,
            reason: words.next().unwrap_or_default().to_owned(),
            version,
            fields,
            body: Vec::new(),
            trailers: Fields::default(),
            raw_head,
        }
    }

    /// How its body ends, as the answer to `method` (RFC 9112 section 6.3).
    pub fn length(&self, method: &str) -> Length {
        if method == "HEAD" || self.status < 200 || self.status == 204 || self.status == 304 {
            return Length::None;
        }
        length(&self.fields).unwrap_or(Length::UntilClose)
    }

    /// Whether it says that the connection ends with it.
    pub fn closes(&self) -> bool {
        self.fields.all("connection").iter().any(|value| value.to_ascii_lowercase().contains("close"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of a header field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

fn split(raw_head: &[u8]) -> (String, Fields) {
    let end = raw_head.windows(2).position(|pair| pair == b"\r\n").expect("a head has a first line");
    (String::from_utf8_lossy(&raw_head[..end]).into_owned(), Fields::parse(&raw_head[end + 2..]))
}

fn length(fields: &Fields) -> Option<Length> {
    if fields.has("transfer-encoding") {
        assert!(!fields.has("content-length"), "Transfer-Encoding and Content-Length together: {fields:?}");
        return Some(Length::Chunked);
    }
    let values = fields.all("content-length");
    assert!(values.len() <= 1, "several Content-Length: {fields:?}");
    values.first().map(|value| Length::Fixed(value.parse().expect("Content-Length is a number")))
}
