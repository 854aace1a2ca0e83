//! One statement in other letters.

use crate::chance::Chance;

/// The same statement, written differently: case, comments, white space, a semicolon. Quoted text stays.
pub(crate) fn respelled(sql: &str, chance: &mut Chance) -> String {
    let mut text = String::new();
    let mut quote: Option<char> = None;
    // Within dollar quotes, escapes and the like every character counts.
    let plain = !sql.contains('$') && !sql.contains("U&") && !sql.contains("E'");
    for letter in sql.chars() {
        match quote {
            Some(end) => {
                text.push(letter);
                if letter == end {
                    quote = None;
                }
            }
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                text.push(letter);
            }
            None if letter == ' ' && plain => {
                text += chance.pick(&[" ", "  ", "\n", "\t", " /* ' */ ", " -- \"\n", "/**/ "]);
            }
            None if plain && letter.is_ascii_alphabetic() && chance.one_in(2) => {
                text.push(letter.to_ascii_uppercase());
            }
            None => text.push(letter),
        }
    }
    if chance.one_in(3) {
        text += ";";
    }
    text
}
