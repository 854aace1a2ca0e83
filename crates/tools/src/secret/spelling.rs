//! The ways in which a secret comes back: each of its characters as it is, or escaped as URLs, forms, JSON, programs and
//! HTML do, also escaped again.

use std::{collections::BTreeSet, sync::LazyLock};

/// So many times a character may have been escaped on top of another escape: `%25252F` is `/` escaped three times.
const ESCAPES_MAX: usize = 3;
/// So many zeros may stand before a number in an escape.
const ZEROS_MAX: usize = 8;
/// So far may a line of a long text be moved in.
const LINE_BLANKS_MAX: usize = 8;
/// What an escape begins with, whatever was escaped and how often.
const BEGINNINGS: &[u8] = b"%\\&+";

/// A text that is looked for in every spelling.
pub(super) struct Spelling {
    chars: Vec<char>,
    any_case: bool,
    broken: bool,
}

impl Spelling {
    pub(super) fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), any_case: false, broken: false }
    }

    /// As [`Spelling::new`], on one line or broken into several.
    pub(super) fn in_lines(text: &str) -> Self {
        Self { broken: true, ..Self::new(text) }
    }

    /// As [`Spelling::in_lines`], in capital letters or small ones.
    pub(super) fn any_case(text: &str) -> Self {
        Self { any_case: true, ..Self::in_lines(text) }
    }

    /// Where the text next stands from `from` on, and where it ends: at the furthest, should an escape be read in two ways.
    pub(super) fn find(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        let first = *self.chars.first()?;
        let mut buffer = [0_u8; 4];
        let literal = first.encode_utf8(&mut buffer).as_bytes().first().copied()?;
        let bytes = text.as_bytes();
        let may_begin = |byte: u8| {
            byte == literal
                || (self.any_case && byte.eq_ignore_ascii_case(&literal))
                || BEGINNINGS.contains(&byte)
        };
        let mut at = from;
        while let Some(skipped) = bytes.get(at..)?.iter().position(|byte| may_begin(*byte)) {
            at = at.saturating_add(skipped);
            // Nearly all places are told by two signs.
            if let (Some(&here), Some(&next), Some(&second)) =
                (bytes.get(at), bytes.get(at.saturating_add(1)), self.chars.get(1))
                && here.is_ascii()
                && !BEGINNINGS.contains(&here)
                && !BEGINNINGS.contains(&next)
                && !(self.broken && next.is_ascii_whitespace())
                && second.is_ascii()
                && !char::from(next).eq_ignore_ascii_case(&second)
            {
                at = at.saturating_add(1);
                continue;
            }
            let mut ends = vec![at];
            for (place, c) in self.chars.iter().enumerate() {
                if self.broken && place > 0 {
                    ends = next_lines(bytes, ends);
                }
                ends = spelled(bytes, &ends, *c, self.any_case, ESCAPES_MAX);
                if ends.is_empty() {
                    break;
                }
            }
            if let Some(end) = ends.last() {
                return Some((at, *end));
            }
            at = at.saturating_add(1);
        }
        None
    }
}

/// A text as it is, and as common writers of URLs, forms, JSON and HTML escape the whole of it.
pub(super) fn whole(text: &str) -> BTreeSet<String> {
    let each = |written: &dyn Fn(char) -> Option<String>| -> String {
        text.chars().map(|c| written(c).unwrap_or_else(|| c.to_string())).collect()
    };
    let percent = |c: char, upper: bool| -> String {
        let mut buffer = [0_u8; 4];
        let bytes = c.encode_utf8(&mut buffer).bytes();
        bytes.map(|byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") }).collect()
    };
    let mut all = BTreeSet::from([text.to_owned()]);
    // What is left as it is: the unreserved characters of RFC 3986, those of `encodeURIComponent`, of forms, and the slash.
    for left in ["-._~", "-._~!*'()", "-._*", "-._~/"] {
        for upper in [true, false] {
            let escape =
                |c: char| (!c.is_ascii_alphanumeric() && !left.contains(c)).then(|| percent(c, upper));
            all.insert(each(&escape));
            all.insert(each(&|c| if c == ' ' { Some("+".into()) } else { escape(c) }));
        }
    }
    // JSON (RFC 8259): as little as must be, with the slash, as PHP does, and without what HTML or ASCII does not have.
    for (slash, html, ascii) in [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (true, false, true),
        (false, true, true),
    ] {
        all.insert(each(&|c| {
            let unicode = || {
                let mut units = [0_u16; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            };
            match c {
                '"' | '\\' => Some(format!("\\{c}")),
                '\n' => Some("\\n".into()),
                '\r' => Some("\\r".into()),
                '\t' => Some("\\t".into()),
                '/' if slash => Some("\\/".into()),
                '<' | '>' | '&' if html => Some(unicode()),
                _ if c.is_control() || (ascii && !c.is_ascii()) => Some(unicode()),
                _ => None,
            }
        }));
    }
    // HTML: the apostrophe is written in three ways, or left, and so is the quotation mark.
    for apostrophe in [None, Some("&#39;"), Some("&#x27;"), Some("&apos;")] {
        for quote in [None, Some("&quot;"), Some("&#34;")] {
            all.insert(each(&|c| match c {
                '&' => Some("&amp;".into()),
                '<' => Some("&lt;".into()),
                '>' => Some("&gt;".into()),
                '\'' => apostrophe.map(str::to_owned),
                '"' => quote.map(str::to_owned),
                _ => None,
            }));
        }
    }
    all
}

/// One step of an escape.
#[derive(Clone, Copy)]
enum Step {
    /// A sign, which may itself be escaped.
    Sign(char),
    /// A letter or digit, in either case.
    Letter(u8),
    /// As many zeros as there are, or fewer.
    Zeros,
}

/// Where `c` ends, in any spelling, if it begins at one of `starts`: in ascending order.
fn spelled(text: &[u8], starts: &[usize], c: char, any_case: bool, escapes: usize) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut buffer = [0_u8; 4];
    let literal = c.encode_utf8(&mut buffer).as_bytes();
    for &start in starts {
        let Some(rest) = text.get(start..) else { continue };
        let stands = rest
            .get(..literal.len())
            .is_some_and(|there| there == literal || (any_case && there.eq_ignore_ascii_case(literal)));
        if stands {
            ends.push(start.saturating_add(literal.len()));
        }
        let Some(fewer) = escapes.checked_sub(1) else { continue };
        let Some(&first) = rest.first().filter(|byte| BEGINNINGS.contains(byte)) else { continue };
        let meant = meant(rest);
        with_escapes(c, |escape| {
            // Most escapes cannot stand here, and those of escapes are many.
            let fits = match escape.first() {
                Some(Step::Sign(sign)) => {
                    char::from(first) == *sign
                        || meant.is_some_and(|meant| meant == *sign || matches!(meant, '%' | '\\' | '&'))
                }
                Some(Step::Letter(_) | Step::Zeros) | None => false,
            };
            if fits {
                ends.extend(escaped(text, start, escape, fewer));
            }
        });
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// The character of ASCII that an escape at the beginning of a text stands for, however often its first sign was escaped.
fn meant(text: &[u8]) -> Option<char> {
    let number = |digits: &[u8], radix| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let after = |text: &'_ [u8], again: &[u8]| {
        let mut at = 0;
        while text.get(at..).is_some_and(|rest| rest.starts_with(again)) {
            at = at.saturating_add(again.len());
        }
        at
    };
    let digits = |text: &[u8], hexadecimal: bool| {
        let digit = |byte: &&u8| if hexadecimal { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
        text.iter().take(ZEROS_MAX.saturating_mul(2)).take_while(digit).count()
    };
    let (first, rest) = text.split_first()?;
    let code = match first {
        b'%' => number(rest.get(after(rest, b"25")..)?.get(..2)?, 16),
        b'\\' => {
            let rest = rest.get(after(rest, b"\\")..)?;
            match rest.split_first()? {
                (b'x', rest) => number(rest.get(..2)?, 16),
                (b'u', rest) if rest.first() == Some(&b'{') => {
                    let rest = rest.get(1..)?;
                    number(rest.get(..digits(rest, true))?, 16)
                }
                (b'u', rest) => number(rest.get(..4)?, 16),
                (b'0'..=b'3', _) => number(rest.get(..3)?, 8),
                // Whatever stands behind a backslash may be meant.
                (sign, _) => return Some(char::from(*sign)),
            }
        }
        b'&' => {
            let rest = rest.get(after(rest, b"amp;")..)?;
            match rest {
                [b'#', b'x' | b'X', rest @ ..] => number(rest.get(..digits(rest, true))?, 16),
                [b'#', rest @ ..] => number(rest.get(..digits(rest, false))?, 10),
                _ => {
                    let named = |name: &str| {
                        rest.get(..name.len())
                            .is_some_and(|there| there.eq_ignore_ascii_case(name.as_bytes()))
                    };
                    return NAMED.iter().find(|(_, name)| named(name)).map(|(sign, _)| *sign);
                }
            }
        }
        _ => None,
    };
    code.and_then(char::from_u32)
}

/// The places where a line is not broken, or where the next begins: after a break, escaped or not, and blanks.
fn next_lines(text: &[u8], mut ends: Vec<usize>) -> Vec<usize> {
    let Some(&end) = ends.last() else { return ends };
    let rest = text.get(end..).unwrap_or_default();
    if !rest.first().is_some_and(|byte| byte.is_ascii_whitespace() || BEGINNINGS.contains(byte)) {
        return ends;
    }
    let mut after = vec![end];
    for c in ['\r', '\n'] {
        after.extend(spelled(text, &after, c, false, ESCAPES_MAX));
    }
    let blank = |at: &usize| text.get(*at).is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    for at in after {
        let blanks = (at..).take(LINE_BLANKS_MAX).take_while(blank).count();
        ends.extend((0..=blanks).map(|blanks| at.saturating_add(blanks)));
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Where an escape ends that begins at `start`.
fn escaped(text: &[u8], start: usize, escape: &[Step], escapes: usize) -> Vec<usize> {
    let mut ends = vec![start];
    for step in escape {
        ends = match *step {
            Step::Sign(sign) => spelled(text, &ends, sign, false, escapes),
            Step::Letter(letter) => {
                let there =
                    |end: &usize| text.get(*end).is_some_and(|byte| byte.eq_ignore_ascii_case(&letter));
                ends.into_iter().filter(there).map(|end| end.saturating_add(1)).collect()
            }
            Step::Zeros => ends.into_iter().flat_map(|end| zeros(text, end)).collect(),
        };
        if ends.is_empty() {
            break;
        }
    }
    ends
}

/// The ends of none, one, two, … zeros from `start` on.
fn zeros(text: &[u8], start: usize) -> impl Iterator<Item = usize> {
    let zeros = text
        .get(start..)
        .unwrap_or_default()
        .iter()
        .take(ZEROS_MAX)
        .take_while(|byte| **byte == b'0')
        .count();
    (0..=zeros).map(move |zeros| start.saturating_add(zeros))
}

/// The escapes of ASCII, which are asked for at each sign that might begin one.
static ASCII: LazyLock<Vec<Vec<Vec<Step>>>> =
    LazyLock::new(|| (0..=127_u8).map(|byte| escapes(char::from(byte))).collect());

fn with_escapes(c: char, mut each: impl FnMut(&[Step])) {
    let made;
    let all = match usize::try_from(u32::from(c)).ok().and_then(|index| ASCII.get(index)) {
        Some(known) => known,
        None => {
            made = escapes(c);
            &made
        }
    };
    all.iter().for_each(|escape| each(escape));
}

/// Every escape of a character: RFC 3986 (section 2.1), `application/x-www-form-urlencoded`, RFC 8259 (section 7), the
/// escapes of C, Python and JavaScript, and HTML's character references.
fn escapes(c: char) -> Vec<Vec<Step>> {
    let mut buffer = [0_u8; 4];
    let bytes = c.encode_utf8(&mut buffer).as_bytes().to_vec();
    let mut units = [0_u16; 2];
    let units = c.encode_utf16(&mut units);
    let number = u32::from(c);
    let of_bytes = |written: fn(u8) -> String| bytes.iter().map(|byte| written(*byte)).collect::<String>();
    let mut all = vec![
        of_bytes(|byte| format!("%{byte:02x}")),
        of_bytes(|byte| format!("\\x{byte:02x}")),
        of_bytes(|byte| format!("\\{byte:03o}")),
        units.iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        // A line feed stands for any number of zeros.
        format!("\\u{{\n{number:x}}}"),
        format!("&#\n{number};"),
        format!("&#x\n{number:x};"),
    ];
    if (128..256).contains(&number) {
        all.push(format!("\\x{number:02x}"));
    }
    all.extend(SHORT.iter().filter(|(of, _)| *of == c).map(|(_, short)| (*short).to_owned()));
    all.extend(NAMED.iter().filter(|(of, _)| *of == c).map(|(_, name)| format!("&{name};")));
    all.iter().map(|escape| escape.chars().map(step).collect()).collect()
}

fn step(c: char) -> Step {
    match c {
        '\n' => Step::Zeros,
        _ => match u8::try_from(c) {
            Ok(byte) if byte.is_ascii_alphanumeric() => Step::Letter(byte),
            _ => Step::Sign(c),
        },
    }
}

/// Escapes of one sign, and the plus that stands for a blank in forms.
const SHORT: &[(char, &str)] = &[
    (' ', "+"),
    ('"', "\\\""),
    ('\'', "\\'"),
    ('\\', "\\\\"),
    ('/', "\\/"),
    ('`', "\\`"),
    ('$', "\\$"),
    ('\n', "\\n"),
    ('\r', "\\r"),
    ('\t', "\\t"),
];

/// HTML's names of what a secret may hold (HTML Living Standard, section 13.5).
const NAMED: &[(char, &str)] = &[
    ('!', "excl"),
    ('"', "quot"),
    ('#', "num"),
    ('$', "dollar"),
    ('%', "percnt"),
    ('&', "amp"),
    ('\'', "apos"),
    ('(', "lpar"),
    (')', "rpar"),
    ('*', "ast"),
    ('*', "midast"),
    ('+', "plus"),
    (',', "comma"),
    ('.', "period"),
    ('/', "sol"),
    (':', "colon"),
    (';', "semi"),
    ('<', "lt"),
    ('=', "equals"),
    ('>', "gt"),
    ('?', "quest"),
    ('@', "commat"),
    ('[', "lsqb"),
    ('[', "lbrack"),
    ('\\', "bsol"),
    (']', "rsqb"),
    (']', "rbrack"),
    ('^', "hat"),
    ('_', "lowbar"),
    ('`', "grave"),
    ('{', "lcub"),
    ('{', "lbrace"),
    ('|', "verbar"),
    ('|', "vert"),
    ('}', "rcub"),
    ('}', "rbrace"),
    ('\n', "newline"),
    ('\t', "tab"),
];
