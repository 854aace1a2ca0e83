//! Reading one table of a TOML file: typed values, defaults from the reference file, and every mistake
//! reported where it stands instead of the first one only.

use std::{collections::BTreeMap, fmt, ops::Range, sync::LazyLock};

use countersign_audit::canonical::INTEGER_MAX;
use serde_json::{Value as Json, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    form::{self, Asked, Mark},
    mistake::{Found, Source},
};

/// What is wrong with one value.
#[derive(Debug)]
pub(crate) struct Complaint {
    message: String,
    help: Option<String>,
}

impl Complaint {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Says what it is about.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("`{what}`: {}", self.message);
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl<E: std::error::Error> From<E> for Complaint {
    fn from(why: E) -> Self {
        Self::new(why.to_string())
    }
}

/// A value with its place.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

/// One table, being read. Keys that nobody asked for are mistakes: see [`Section::finish`].
pub(crate) struct Section<'i, 'c> {
    /// Its name as a reader would write it, such as `[system.billing]`.
    title: String,
    span: Range<usize>,
    values: DeTable<'i>,
    defaults: Option<&'static DeTable<'static>>,
    /// Where such tables stand in any configuration, such as `system.*`.
    path: String,
    variant: Vec<Mark>,
    asked: Vec<(&'static str, Asked)>,
    source: &'c Source,
    found: &'c Found,
}

impl<'i, 'c> Section<'i, 'c> {
    pub(crate) fn new(
        title: impl Into<String>,
        path: impl Into<String>,
        value: Option<Value<'i>>,
        defaults: Option<&'static DeTable<'static>>,
        (source, found): (&'c Source, &'c Found),
    ) -> Self {
        let title = title.into();
        let (span, values) = match value {
            None => (0..0, DeTable::new()),
            Some(value) => {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) => (span, table),
                    other @ (DeValue::String(_)
                    | DeValue::Integer(_)
                    | DeValue::Float(_)
                    | DeValue::Boolean(_)
                    | DeValue::Datetime(_)
                    | DeValue::Array(_)) => {
                        let message = format!("`{title}` must be a table, not {}", kind(&other));
                        found.push(source.mistake(Some(span.clone()), message, None));
                        (span, DeTable::new())
                    }
                }
            }
        };
        let (path, variant, asked) = (path.into(), Vec::new(), Vec::new());
        Self { title, span, values, defaults, path, variant, asked, source, found }
    }

    pub(crate) fn report(&self, span: Option<Range<usize>>, complaint: Complaint) {
        let span = span.or_else(|| (!self.span.is_empty()).then(|| self.span.clone()));
        self.found.push(self.source.mistake(span, complaint.message, complaint.help));
    }

    /// Says what tells this table from others that have other keys.
    pub(crate) fn variant(&mut self, mark: Mark) {
        self.variant.push(mark);
    }

    /// Takes a value out as it stands, without its default.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value<'i>> {
        self.ask(key, Asked::default);
        self.values.remove(key)
    }

    /// Whether the file itself says it.
    pub(crate) fn says(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Keeps in mind that a key was asked for, and how where that is noted.
    fn ask(&mut self, key: &'static str, how: impl FnOnce() -> Asked) {
        let asked = if self.found.notes() { how() } else { Asked::default() };
        self.asked.push((key, asked));
    }

    /// A value that may be absent and has no default.
    pub(crate) fn optional<T>(&mut self, key: &'static str, form: impl Form<T>) -> Option<T> {
        self.ask(key, || Asked { shape: Some(form.shape()), ..Asked::default() });
        self.value(key, form)
    }

    fn value<T>(&mut self, key: &'static str, form: impl Form<T>) -> Option<T> {
        let value = self.values.remove(key)?;
        match form.read(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(mut complaint) => {
                complaint.message = format!("`{key}` in `{}`: {}", self.title, complaint.message);
                self.report(Some(value.span()), complaint);
                None
            }
        }
    }

    /// A value that has a default in the reference file.
    pub(crate) fn defaulted<T>(&mut self, key: &'static str, form: impl Form<T>) -> Option<T> {
        let default = self.defaults.and_then(|table| table.get(key)).map(Spanned::get_ref);
        self.ask(key, || {
            let default = default.and_then(|value| json(value).ok());
            Asked { shape: Some(form.shape()), default, ..Asked::default() }
        });
        if self.says(key) {
            return self.value(key, form);
        }
        let parsed = default.and_then(|value| form.read(value).ok());
        if parsed.is_none() {
            // A test reads every default, so this is not met.
            self.report(None, Complaint::new(format!("`{key}` of `{}` has no default", self.title)));
        }
        parsed
    }

    /// A value that must be there.
    pub(crate) fn required<T>(&mut self, key: &'static str, help: &str, form: impl Form<T>) -> Option<T> {
        self.ask(key, || Asked { shape: Some(form.shape()), required: true, default: None });
        if !self.says(key) {
            let message = format!("`{}` has no `{key}`", self.title);
            self.report(None, Complaint::new(message).help(help));
            return None;
        }
        self.value(key, form)
    }

    /// Takes the defaults from another table of the reference file.
    pub(crate) const fn set_defaults(&mut self, defaults: Option<&'static DeTable<'static>>) {
        self.defaults = defaults;
    }

    /// Where every value stands, by its dotted key.
    pub(crate) fn places(&self) -> BTreeMap<String, Range<usize>> {
        fn walk(table: &DeTable<'_>, prefix: &str, places: &mut BTreeMap<String, Range<usize>>) {
            for (key, value) in table {
                let path = format!("{prefix}{}", key.get_ref());
                if let Some(inner) = value.get_ref().as_table() {
                    walk(inner, &format!("{path}."), places);
                }
                places.insert(path, value.span());
            }
        }
        let mut places = BTreeMap::from([(String::new(), self.span.clone())]);
        walk(&self.values, "", &mut places);
        places
    }

    /// Where a key's value stands.
    pub(crate) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.values.get(key).map(Spanned::span)
    }

    /// A table in this table.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        let title = format!("{} {key}", self.title);
        let path = form::below(&form::within(&self.path, &self.variant), key);
        Some(Self::new(title, path, Some(value), None, (self.source, self.found)))
    }

    /// A table at the top of a file, there or not, with the defaults of its namesake in the reference file.
    pub(crate) fn top(&mut self, key: &'static str) -> Self {
        self.ask(key, || Asked { required: true, ..Asked::default() });
        let value = self.values.remove(key);
        let defaults = reference(key, None);
        Self::new(format!("[{key}]"), key, value, defaults, (self.source, self.found))
    }

    /// Every key with its value, for tables whose keys are names.
    pub(crate) fn names(&mut self) -> Vec<(Spanned<String>, Value<'i>)> {
        let keys: Vec<Spanned<String>> =
            self.values.keys().map(|key| Spanned::new(key.span(), key.get_ref().to_string())).collect();
        keys.into_iter()
            .filter_map(|key| {
                let value = self.values.remove(key.get_ref().as_str())?;
                Some((key, value))
            })
            .collect()
    }

    /// Ends the reading: what nobody asked for does not exist.
    pub(crate) fn finish(self) {
        self.found.note(&self.path, &self.variant, &self.asked);
        for key in self.values.keys() {
            let written = key.get_ref().as_ref();
            let mut asked: Vec<&str> = self.asked.iter().map(|(known, _)| *known).collect();
            let near = asked
                .iter()
                .map(|known| (strsim::levenshtein(written, known), *known))
                .min()
                .filter(|(distance, known)| *distance <= 2.max(known.len().div_euclid(3)));
            asked.sort_unstable();
            asked.dedup();
            let help = match near {
                Some((_, known)) => format!("did you mean `{known}`?"),
                None => format!("known keys are `{}`", asked.join("`, `")),
            };
            let message = format!("`{written}` is no key of `{}`", self.title);
            self.found.push(self.source.mistake(Some(key.span()), message, Some(help)));
        }
    }
}

impl fmt::Debug for Section<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("title", &self.title).finish_non_exhaustive()
    }
}

/// What a value is, in words.
pub(crate) const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn not(value: &DeValue<'_>, wanted: &str) -> Complaint {
    Complaint::new(format!("must be {wanted}, not {}", kind(value)))
}

/// A form of values: how it is read, and what an editor is told of it.
pub(crate) trait Form<T> {
    /// The form as a JSON Schema. What it does not fit is refused by [`Form::read`]; the reverse need not hold.
    fn shape(&self) -> Json;

    fn read(self, value: &DeValue<'_>) -> Result<T, Complaint>;
}

/// What is read into one type has one form.
pub(crate) trait Shaped {
    fn shape() -> Json;
}

impl<T: Shaped, F: FnOnce(&DeValue<'_>) -> Result<T, Complaint>> Form<T> for F {
    fn shape(&self) -> Json {
        T::shape()
    }

    fn read(self, value: &DeValue<'_>) -> Result<T, Complaint> {
        self(value)
    }
}

/// A way to read values whose type does not say their form.
pub(crate) struct Written<F> {
    shape: Json,
    read: F,
}

impl<T, F: FnOnce(&DeValue<'_>) -> Result<T, Complaint>> Form<T> for Written<F> {
    fn shape(&self) -> Json {
        self.shape.clone()
    }

    fn read(self, value: &DeValue<'_>) -> Result<T, Complaint> {
        (self.read)(value)
    }
}

/// What is written in a form and read by a function.
pub(crate) const fn written<T, F: FnOnce(&DeValue<'_>) -> Result<T, Complaint>>(
    shape: Json,
    read: F,
) -> Written<F> {
    Written { shape, read }
}

impl Shaped for String {
    fn shape() -> Json {
        json!({ "type": "string" })
    }
}

impl Shaped for std::path::PathBuf {
    fn shape() -> Json {
        String::shape()
    }
}

impl Shaped for bool {
    fn shape() -> Json {
        json!({ "type": "boolean" })
    }
}

impl Shaped for Json {
    fn shape() -> Json {
        json!({})
    }
}

impl<T: Shaped> Shaped for BTreeMap<String, T> {
    fn shape() -> Json {
        json!({ "type": "object", "additionalProperties": T::shape() })
    }
}

/// A text.
pub(crate) fn text(value: &DeValue<'_>) -> Result<String, Complaint> {
    value.as_str().map(str::to_owned).ok_or_else(|| not(value, "a text"))
}

/// A text that parses.
pub(crate) fn parsed<T, E: Into<Complaint>>(parse: impl FnOnce(&str) -> Result<T, E>) -> impl Form<T> {
    written(String::shape(), move |value: &DeValue<'_>| parse(&text(value)?).map_err(Into::into))
}

/// One of some words.
pub(crate) fn word<T: Copy>(words: &[(&'static str, T)]) -> impl Form<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    written(json!({ "type": "string", "enum": known }), move |value: &DeValue<'_>| {
        let written = text(value)?;
        words.iter().find(|(word, _)| *word == written).map(|(_, meaning)| *meaning).ok_or_else(|| {
            Complaint::new(format!("`{written}` is not known"))
                .help(format!("write one of `{}`", known.join("`, `")))
        })
    })
}

/// `true` or `false`.
pub(crate) fn flag(value: &DeValue<'_>) -> Result<bool, Complaint> {
    value.as_bool().ok_or_else(|| not(value, "`true` or `false`"))
}

/// A whole number within bounds.
pub(crate) fn integer(range: std::ops::RangeInclusive<u64>) -> impl Form<u64> {
    let shape = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
    written(shape, move |value: &DeValue<'_>| {
        let written = value.as_integer().ok_or_else(|| not(value, "a whole number"))?;
        u64::from_str_radix(written.as_str(), written.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                Complaint::new(format!("`{written}` is out of bounds")).help(format!(
                    "write a whole number from {} to {}",
                    range.start(),
                    range.end()
                ))
            })
    })
}

/// A list whose items parse.
pub(crate) fn list<T>(mut item: impl FnMut(&str) -> Result<T, Complaint>) -> impl Form<Vec<T>> {
    let shape = json!({ "type": "array", "items": String::shape() });
    written(shape, move |value: &DeValue<'_>| {
        let items = value.as_array().ok_or_else(|| not(value, "a list of texts"))?;
        items.iter().map(|one| item(&text(one.get_ref())?)).collect()
    })
}

/// A table of the reference file: a section, or one member of a family of them.
pub(crate) fn reference(section: &str, member: Option<&str>) -> Option<&'static DeTable<'static>> {
    static TABLE: LazyLock<Option<Spanned<DeTable<'static>>>> =
        LazyLock::new(|| DeTable::parse(super::REFERENCE).ok());
    let value = TABLE.as_ref()?.get_ref().get(section)?.get_ref();
    match (value, member) {
        (DeValue::Table(table), None) => Some(table),
        (DeValue::Table(family), Some(member)) => {
            family.get(member).or_else(|| family.values().next())?.get_ref().as_table()
        }
        (DeValue::Array(items), _) => items.iter().next()?.get_ref().as_table(),
        (
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_),
            _,
        ) => None,
    }
}

/// Any value, as JSON.
pub(crate) fn json(value: &DeValue<'_>) -> Result<Json, Complaint> {
    Ok(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(flag) => Json::from(*flag),
        DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix())
            .ok()
            .filter(|number| (-INTEGER_MAX..=INTEGER_MAX).contains(number))
            .map(Json::from)
            .ok_or_else(|| Complaint::new(format!("`{written}` is larger than JSON keeps exact")))?,
        DeValue::Float(written) => written
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Json::Number)
            .ok_or_else(|| Complaint::new(format!("`{written}` is no number of JSON")))?,
        DeValue::Datetime(written) => {
            return Err(Complaint::new(format!("`{written}` is a date, which JSON does not have"))
                .help("write it in quotes"));
        }
        DeValue::Array(items) => {
            Json::Array(items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let members = table.iter().map(|(k, v)| Ok((k.get_ref().to_string(), json(v.get_ref())?)));
            Json::Object(members.collect::<Result<_, Complaint>>()?)
        }
    })
}
