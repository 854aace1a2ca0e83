//! Texts that somebody else wrote are shown so that people may read them: what is invisible, or moves what
//! stands around it, is spelled out, and what looks like another letter is named. What is which comes from
//! Unicode's own tables, not from a list of ours.

use std::collections::BTreeMap;

use icu_properties::{
    CodePointMapData, CodePointSetData, CodePointSetDataBorrowed,
    props::{
        DefaultIgnorableCodePoint, GeneralCategory, NoncharacterCodePoint, PatternWhiteSpace, Script,
        WhiteSpace,
    },
};
use unicode_security::confusable_detection::skeleton;

/// So many blanks in a row are counted instead of shown: they push what follows out of sight.
const BLANKS_MAX: usize = 8;
/// So many look-alike letters are named at most.
const NAMED_MAX: usize = 8;

/// Spells out what would move the cursor, recolour, reorder or hide a text on a terminal. Lines stay lines.
pub fn visible(text: &str) -> String {
    spelled(text, true)
}

/// Does as [`visible`], and on one line: what somebody else wrote cannot pass for a line of ours.
pub fn one_line(text: &str) -> String {
    spelled(text, false)
}

/// Writes a number with its thousands apart: `14,200`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(at);
        if at > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes how long something took, of which there are so many milliseconds: `850 ms`, `12 s`, `4 min 10 s`, `2 h 5 min`,
/// `3 d 4 h`.
pub fn span(ms: u64) -> String {
    let two = |large: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{} {one}", grouped(large)),
        _ => format!("{} {one} {small} {other}", grouped(large)),
    };
    let s = ms.div_euclid(1_000);
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => two(s.div_euclid(60), "min", s.rem_euclid(60), "s"),
        3_600..86_400 => two(s.div_euclid(3_600), "h", s.rem_euclid(3_600).div_euclid(60), "min"),
        _ => two(s.div_euclid(86_400), "d", s.rem_euclid(86_400).div_euclid(3_600), "h"),
    }
}

fn spelled(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = '\n';
    let mut blanks = 0_usize;
    for c in text.chars() {
        if c == ' ' {
            blanks = blanks.saturating_add(1);
            continue;
        }
        pad(&mut shown, std::mem::take(&mut blanks));
        if c == '\n' && lines {
            shown.push(c);
        } else if hides(c) || (marks(c) && !carries_marks(before)) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        before = c;
    }
    pad(&mut shown, blanks);
    shown
}

fn pad(shown: &mut String, blanks: usize) {
    if blanks > BLANKS_MAX {
        shown.push_str(&format!(" \\u{{20}}×{blanks} "));
    } else {
        shown.extend(std::iter::repeat_n(' ', blanks));
    }
}

/// Tells whether a character is a control, has no shape of its own, reorders text, breaks lines, has no meaning
/// given by Unicode, or is a blank other than the usual one.
fn hides(c: char) -> bool {
    const IGNORED: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    const SPACE: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<WhiteSpace>();
    const PATTERN: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<PatternWhiteSpace>();
    const NEVER: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<NoncharacterCodePoint>();
    c != ' '
        && (matches!(
            CodePointMapData::<GeneralCategory>::new().get(c),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::PrivateUse
                | GeneralCategory::Surrogate
                | GeneralCategory::Unassigned
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::SpaceSeparator
        ) || IGNORED.contains(c)
            || SPACE.contains(c)
            || PATTERN.contains(c)
            || NEVER.contains(c)
            // Symbols whose shape is empty: a Braille pattern without dots, a note head without ink, a missing object.
            || matches!(c, '\u{2800}' | '\u{1d159}' | '\u{fffc}'))
}

/// Tells whether a character is drawn over, under or around the letter before it.
fn marks(c: char) -> bool {
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark
    )
}

/// Tells whether marks belong to the ordinary spelling of a character's script. In Latin, Greek and Cyrillic
/// the letters with marks have code points of their own; a mark apart makes a text that looks equal and is
/// another.
fn carries_marks(c: char) -> bool {
    if marks(c) {
        // What carries the first carries the second.
        return true;
    }
    !matches!(
        CodePointMapData::<Script>::new().get(c),
        Script::Latin | Script::Greek | Script::Cyrillic | Script::Common | Script::Armenian
    )
}

/// Says which letters look like ASCII ones and are not: with a Cyrillic `а` it is another table. Such a letter
/// counts in a word that has ASCII letters too, and in a word that looks like one of ASCII as a whole.
pub fn alike(text: &str) -> Option<String> {
    let mut found: BTreeMap<char, String> = BTreeMap::new();
    for word in text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_') {
        if word.is_ascii() {
            continue;
        }
        let mixed = word.chars().any(|c| c.is_ascii_alphanumeric());
        if !mixed && !skeleton(word).all(|c| c.is_ascii()) {
            continue;
        }
        for c in word.chars().filter(|c| !c.is_ascii() && !quotes(*c) && !hides(*c)) {
            let mut buffer = [0_u8; 4];
            let like: String = skeleton(c.encode_utf8(&mut buffer)).collect();
            let like = if like.is_ascii() { like } else { foreign(c) };
            if !like.is_empty() {
                found.insert(c, like);
            }
        }
    }
    if found.is_empty() {
        return None;
    }
    let more = found.len().saturating_sub(NAMED_MAX);
    let named: Vec<String> = found
        .iter()
        .take(NAMED_MAX)
        .map(|(c, like)| format!("`{}` is U+{:04X}, not `{like}`", one_line(&c.to_string()), u32::from(*c)))
        .collect();
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    Some(format!("letters look like others and are not: {}{more}", named.join(", ")))
}

/// Tells whether a character is a typographic quote. These stand in half of all prose, and no database takes
/// them for its own.
fn quotes(c: char) -> bool {
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::InitialPunctuation | GeneralCategory::FinalPunctuation
    )
}

/// Returns what a letter of another alphabet looks like, where Unicode names no single look-alike of it;
/// nothing for alphabets that look unlike ours.
fn foreign(c: char) -> String {
    let script = CodePointMapData::<Script>::new().get(c);
    match script {
        Script::Greek | Script::Cyrillic | Script::Armenian | Script::Cherokee | Script::Coptic => {
            "Latin".into()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_write_cannot_draw_on_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(visible("a\u{202e}b\r"), "a\\u{202e}b\\r");
        assert_eq!(visible("über\nzwei"), "über\nzwei");
        assert_eq!(one_line("über\nzwei\u{2028}\u{e0041}"), "über\\nzwei\\u{2028}\\u{e0041}");
    }

    #[test]
    fn what_has_no_shape_is_spelled_out() {
        for c in [
            '\u{fe0f}',
            '\u{e0100}',
            '\u{34f}',
            '\u{17b4}',
            '\u{2800}',
            '\u{ffa0}',
            '\u{e000}',
            '\u{f0000}',
            '\u{a0}',
            '\u{2003}',
            '\u{3000}',
            '\u{202f}',
            '\u{ad}',
            '\u{200b}',
            '\u{3164}',
            '\u{feff}',
            '\u{fffb}',
            '\u{378}',
            '\u{fdd0}',
            '\u{1d173}',
            '\u{85}',
            '\u{7f}',
        ] {
            let shown = one_line(&format!("a{c}b"));
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c)));
        }
    }

    #[test]
    fn blanks_that_push_the_rest_out_of_sight_are_counted() {
        assert_eq!(one_line(&format!("a{}b", " ".repeat(3_000))), "a \\u{20}×3000 b");
        assert_eq!(one_line("a        b"), "a        b");
    }

    #[test]
    fn marks_stand_where_their_script_has_them() {
        assert_eq!(one_line("e\u{301}"), "e\\u{301}");
        assert_eq!(one_line("\u{301}x"), "\\u{301}x");
        // Devanagari, Hebrew and Thai are spelled with them.
        for text in ["हिन्दी", "שָׁלוֹם", "ที่"] {
            assert_eq!(one_line(text), text);
        }
    }

    #[test]
    fn letters_that_look_like_others_are_named() {
        for (text, letter) in [
            ("delete from bi\u{430}ling", "U+0430"), // Cyrillic a among Latin
            ("\u{441}\u{43e}\u{440}", "U+0441"),     // a word of Cyrillic that reads as ASCII
            ("\u{585}rders", "U+0585"),              // Armenian o
            ("p\u{251}yment", "U+0251"),             // IPA a
            ("\u{ff44}elete", "U+FF44"),             // full width
            ("\u{1d41d}elete", "U+1D41D"),           // mathematical bold
            ("id = 1\u{37e} drop", "U+037E"),        // Greek question mark
            ("table\u{2010}x", "U+2010"),            // a hyphen that is none of ASCII
            ("where\u{430}", "U+0430"),
        ] {
            let named = alike(text).unwrap_or_default();
            assert!(named.contains(letter), "{text}: {named}");
        }
        for text in [
            "delete from billing",
            "grün und weiß",
            "привет мир",
            "日本語 table",
            "naïve café",
            "it’s “done” — really",
        ] {
            assert_eq!(alike(text), None, "{text}");
        }
    }
}
