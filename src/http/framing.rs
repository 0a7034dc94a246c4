//! Where HTTP/1 messages begin and end in a byte stream, read as strictly as it can be read.
//!
//! A proxy and a server that disagree about the end of a message let one client's bytes become
//! another client's request (request smuggling). hyper follows the lenient readings that RFC 9112
//! permits; behind an unknown proxy only a strict one is safe. So what passes here has: lines that
//! end in CR LF, no folded lines, one `Content-Length` or one `Transfer-Encoding: chunked` or
//! neither, never both, no chunks in HTTP/1.0, and one `Host` where HTTP/1.1 asks for one.

/// What an HTTP/2 client sends first (RFC 9113, section 3.4); HTTP/2 frames cannot be ambiguous.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of one line, at most. hyper refuses a head of half that size, so this bounds chunk
/// extensions and trailers.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// Digits of a `Content-Length`, at most: no number of them overflows.
const LENGTH_DIGITS_MAX: usize = 18;
/// Digits of a chunk's size, at most: no number of them overflows.
const CHUNK_DIGITS_MAX: usize = 15;

/// Follows one connection's bytes from the client.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The part of the current line that came with earlier bytes.
    line: Vec<u8>,
    head: Head,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing but so many bytes of the HTTP/2 preface has come.
    Preface(usize),
    /// Within a line.
    Line(Line),
    /// Within so many bytes of a body, and then a line.
    Skip(u64, Line),
    /// Not HTTP/1 any more.
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Request,
    Header,
    ChunkSize,
    ChunkEnd,
    Trailer,
}

/// What is known of the message whose head is being read, or was read last.
#[derive(Debug, Default)]
struct Head {
    is_old: bool,
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    upgrades: bool,
}

/// The bytes break a rule; says what to log.
type Breach = &'static str;

/// Where they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The index of the first byte that must not pass.
    pub(super) at: usize,
    /// Why.
    pub(super) breach: Breach,
}

/// What is left of the bytes.
type Rest<'a> = Result<&'a [u8], Cut>;

/// Name and value of a header line.
type Field<'a> = (&'a [u8], &'a [u8]);

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::Preface(0), line: Vec::new(), head: Head::default() }
    }

    /// Follows `bytes`.
    ///
    /// # Errors
    /// Where they must not pass.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            rest = self.step(rest).map_err(|cut| Cut { at: at + cut.at, ..cut })?;
        }
        Ok(())
    }

    /// Whether a head has begun, or the connection's first is awaited: the client must hurry.
    pub(super) fn is_in_head(&self) -> bool {
        match self.state {
            State::Preface(_) | State::Line(Line::Header) => true,
            State::Line(Line::Request) => !self.line.is_empty(),
            State::Line(Line::ChunkSize | Line::ChunkEnd | Line::Trailer)
            | State::Skip(..)
            | State::Open => false,
        }
    }

    /// Whether the last request is complete and nothing of another has come.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, State::Line(Line::Request)) && self.line.is_empty()
    }

    /// Whether the bytes are another protocol's by now.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the last request asked for another protocol.
    pub(super) fn may_upgrade(&self) -> bool {
        self.head.upgrades && !matches!(self.state, State::Open)
    }

    /// The other protocol begins: nothing is looked at any more.
    pub(super) fn open(&mut self) {
        self.state = State::Open;
        self.line = Vec::new();
    }

    /// Follows some of `bytes` and returns the rest.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Rest<'a> {
        match self.state {
            State::Open => Ok(&[]),
            State::Preface(matched) => Ok(self.preface(matched, bytes)),
            State::Skip(left, line) => Ok(self.skip(left, line, bytes)),
            State::Line(line) => self.line(line, bytes),
        }
    }

    /// The first byte that is not the preface's makes all of them a request line's.
    fn preface<'a>(&mut self, matched: usize, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = PREFACE.get(matched..).unwrap_or_default();
        let same = wanted.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let matched = matched + same;
        let rest = bytes.get(same..).unwrap_or_default();
        if matched == PREFACE.len() {
            self.open();
        } else if rest.is_empty() {
            self.state = State::Preface(matched);
        } else {
            // Past its first line end the preface is no request: then `PRI` breaks the rules below.
            self.line.extend_from_slice(PREFACE.get(..matched).unwrap_or_default());
            self.state = State::Line(Line::Request);
        }
        rest
    }

    fn skip<'a>(&mut self, left: u64, line: Line, bytes: &'a [u8]) -> &'a [u8] {
        let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(left);
        self.state = if here == left { State::Line(line) } else { State::Skip(left - here, line) };
        bytes.get(usize::try_from(here).unwrap_or(usize::MAX)..).unwrap_or_default()
    }

    fn line<'a>(&mut self, line: Line, bytes: &'a [u8]) -> Rest<'a> {
        let Some(end) = bytes.iter().position(|it| *it == b'\n') else {
            if self.line.len() + bytes.len() > LINE_BYTES_MAX {
                return Err(Cut { at: 0, breach: "a line without end" });
            }
            self.line.extend_from_slice(bytes);
            return Ok(&[]);
        };
        let (here, rest) = bytes.split_at_checked(end + 1).unwrap_or((bytes, &[]));
        let next = if self.line.is_empty() {
            self.complete(line, here)
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(here);
            self.complete(line, &whole)
        };
        self.state = next.map_err(|breach| Cut { at: end, breach })?;
        Ok(rest)
    }

    /// What follows a whole line.
    fn complete(&mut self, line: Line, text: &[u8]) -> Result<State, Breach> {
        let text = text.strip_suffix(b"\r\n").ok_or("a bare line feed")?;
        if text.contains(&b'\r') {
            return Err("a bare carriage return");
        }
        match line {
            Line::Request => self.request(text),
            Line::Header if text.is_empty() => self.body(),
            Line::Header => self.header(text).map(|()| State::Line(Line::Header)),
            Line::ChunkSize => chunk(text),
            Line::ChunkEnd if text.is_empty() => Ok(State::Line(Line::ChunkSize)),
            Line::ChunkEnd => Err("a chunk longer than its size"),
            Line::Trailer if text.is_empty() => Ok(State::Line(Line::Request)),
            Line::Trailer => field(text).map(|_| State::Line(Line::Trailer)),
        }
    }

    fn request(&mut self, text: &[u8]) -> Result<State, Breach> {
        if text.is_empty() {
            // RFC 9112, section 2.2: empty lines before a request are passed over.
            return Ok(State::Line(Line::Request));
        }
        let is_old = text.ends_with(b" HTTP/1.0");
        if !is_old && !text.ends_with(b" HTTP/1.1") {
            return Err("a request line of no known version");
        }
        self.head = Head { is_old, ..Head::default() };
        Ok(State::Line(Line::Header))
    }

    fn header(&mut self, text: &[u8]) -> Result<(), Breach> {
        let (name, value) = field(text)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length =
                digits(value, 10, LENGTH_DIGITS_MAX).ok_or("a length that is no number")?;
            if self.head.length.replace(length).is_some() {
                return Err("two lengths");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a transfer coding other than chunked");
            }
            if std::mem::replace(&mut self.head.chunked, true) {
                return Err("two transfer codings");
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.head.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.head.upgrades = true;
        }
        Ok(())
    }

    /// What follows the head.
    fn body(&self) -> Result<State, Breach> {
        // RFC 9112, section 3.2.
        if self.head.hosts > 1 || (self.head.hosts == 0 && !self.head.is_old) {
            return Err("no host, or two");
        }
        match (self.head.chunked, self.head.length) {
            (true, Some(_)) => Err("a length and a transfer coding"),
            (true, None) if self.head.is_old => Err("a transfer coding in HTTP/1.0"),
            (true, None) => Ok(State::Line(Line::ChunkSize)),
            (false, Some(length)) if length > 0 => Ok(State::Skip(length, Line::Request)),
            (false, _) => Ok(State::Line(Line::Request)),
        }
    }
}

/// Takes a header line apart.
fn field(text: &[u8]) -> Result<Field<'_>, Breach> {
    if text.starts_with(b" ") || text.starts_with(b"\t") {
        return Err("a folded line");
    }
    let colon = text.iter().position(|it| *it == b':').ok_or("a header without a colon")?;
    let (name, value) = text.split_at_checked(colon).ok_or("a header without a colon")?;
    if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
        return Err("a header's name with a space");
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// What follows a line that says the size of a chunk; extensions are passed over.
fn chunk(text: &[u8]) -> Result<State, Breach> {
    let size = text.split(|it| *it == b';').next().unwrap_or_default();
    match digits(size.trim_ascii_end(), 16, CHUNK_DIGITS_MAX) {
        Some(0) => Ok(State::Line(Line::Trailer)),
        Some(size) => Ok(State::Skip(size, Line::ChunkEnd)),
        None => Err("a chunk size that is no number"),
    }
}

/// A number of digits alone: no sign, no space, no list.
fn digits(text: &[u8], radix: u32, most: usize) -> Option<u64> {
    let fine = text.len() <= most && text.iter().all(u8::is_ascii_alphanumeric);
    let text = std::str::from_utf8(text).ok().filter(|_| fine)?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Result<(), Cut> {
        Framing::new().pass(bytes)
    }

    type Message = (&'static str, Result<(), Breach>);

    const MESSAGES: &[Message] = &[
        ("GET / HTTP/1.1\r\n\r\n", Ok(())),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n", Ok(())),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\n\r\n", Ok(())),
        ("POST / HTTP/1.1\r\ncontent-length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n", Ok(())),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\na\nb\r\nA\r\n0123456789\r\n0\r\nt: u\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            Ok(()),
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\n\0 anything", Ok(())),
        ("PRI * HTTP/2.0\r\n\r\nSX\r\n", Err("a bare carriage return")),
        ("PRI * HTTP/2.0\r\nhost: a\r\n", Err("a bare carriage return")),
        ("GET / HTTP/1.1\n\r\n", Err("a bare line feed")),
        ("GET / HTTP/1.1\r\nhost: b\r\n\r\n", Err("no host, or two")),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", Err("a bare line feed")),
        ("GET / HTTP/1.1\r\nhost: a\r\n\n", Err("a bare line feed")),
        ("GET / HTTP/1.1\r\nhost: a\rb: c\r\n\r\n", Err("a bare carriage return")),
        ("GET / HTTP/1.1\r\nhost: a\r\n b: c\r\n\r\n", Err("a folded line")),
        ("GET / HTTP/1.1\r\nhost: a\r\n\tb\r\n\r\n", Err("a folded line")),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", Err("a header's name with a space")),
        ("GET / HTTP/1.1\r\nhost\r\n\r\n", Err("a header without a colon")),
        ("GET /\r\n\r\n", Err("a request line of no known version")),
        ("GET / HTTP/2.0\r\n\r\n", Err("a request line of no known version")),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err("a length and a transfer coding"),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            Err("a length and a transfer coding"),
        ),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n", Err("two lengths")),
        ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n", Err("a length that is no number")),
        ("POST / HTTP/1.1\r\nContent-Length: +3\r\n", Err("a length that is no number")),
        ("POST / HTTP/1.1\r\nContent-Length: 0x3\r\n", Err("a length that is no number")),
        ("POST / HTTP/1.1\r\nContent-Length:\r\n", Err("a length that is no number")),
        (
            "POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n",
            Err("a length that is no number"),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            Err("a transfer coding other than chunked"),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n",
            Err("a transfer coding other than chunked"),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err("two transfer codings"),
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err("a transfer coding in HTTP/1.0"),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
            Err("a chunk longer than its size"),
        ),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc", Err("a bare line feed")),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            Err("a chunk size that is no number"),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            Err("a chunk size that is no number"),
        ),
    ];

    #[test]
    fn messages() {
        for (text, wanted) in MESSAGES {
            let text = text.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n");
            let seen = whole(text.as_bytes()).map_err(|cut| cut.breach);
            match wanted {
                Ok(()) => assert_eq!(seen, Ok(()), "{text:?}"),
                Err(breach) => assert_eq!(seen, Err(*breach), "{text:?}"),
            }
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut framing = Framing::new();
        let piece = [b'x'; 1024];
        let passed = (0..1000).take_while(|_| framing.pass(&piece).is_ok()).count();
        assert_eq!(passed, LINE_BYTES_MAX / 1024);
    }

    #[test]
    fn when_a_client_must_hurry() {
        let mut framing = Framing::new();
        for (text, in_head) in [
            ("", true),
            ("G", true),
            ("ET / HTTP/1.1\r\n", true),
            ("host: a\r\ncontent-length: 3\r\n", true),
            ("\r\n", false),
            ("abc", false),
            ("G", true),
            ("ET / HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ] {
            framing.pass(text.as_bytes()).unwrap();
            assert_eq!(framing.is_in_head(), in_head, "{text:?}");
        }
    }

    #[test]
    fn an_upgrade_opens_only_when_told() {
        let mut framing = Framing::new();
        framing.pass(b"GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\n\r\n").unwrap();
        assert!(framing.may_upgrade());
        framing.open();
        assert!(!framing.may_upgrade());
        framing.pass(b"\n\n\n").unwrap();
    }

    proptest! {
        /// Where the bytes are cut into reads changes nothing.
        #[test]
        fn cuts_do_not_matter(
            text in "(GET / HTTP/1.[01]\r\n|POST / HTTP/1.1\r\n|content-length: [0-3]\r\n|transfer-encoding: chunked\r\n|\r\n|\n|3\r\nabc\r\n|0\r\n|PRI \\* HTTP/2.0\r\n\r\nSM\r\n\r\n|.){0,12}",
            cuts in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let bytes = text.as_bytes();
            let mut framing = Framing::new();
            let (mut rest, mut at, mut seen) = (bytes, 0, Ok(()));
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || seen.is_err() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                seen = framing.pass(now).map_err(|cut| Cut { at: at + cut.at, ..cut });
                at += now.len();
                rest = later;
            }
            prop_assert_eq!(seen, whole(bytes));
        }
    }
}
