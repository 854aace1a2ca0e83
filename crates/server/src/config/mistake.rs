//! What is wrong with a configuration, with the place where it is written.

use std::{
    cell::{Ref, RefCell},
    ops::Range,
    sync::Arc,
};

use miette::{Diagnostic, NamedSource, SourceSpan};

use super::form::{Asked, Forms, Mark};

/// One mistake.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Mistake {
    /// What is wrong: a lower-case fragment with what was written in backticks.
    pub message: String,
    /// What would be right.
    #[help]
    pub help: Option<String>,
    /// The file, relative to the configuration folder.
    pub file: String,
    #[source_code]
    written: NamedSource<Arc<str>>,
    #[label("here")]
    span: Option<SourceSpan>,
}

impl Mistake {
    /// Where it stands, in bytes of its file.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        let span = self.span?;
        Some(span.offset()..span.offset().saturating_add(span.len()))
    }

    /// The line it stands in, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        let before = self.written.inner().get(..self.span?.offset())?;
        Some(before.bytes().filter(|b| *b == b'\n').count().saturating_add(1))
    }

    /// The text that the span covers.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.written.inner().get(self.span()?)
    }
}

/// Every mistake of a configuration. Never empty.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
#[error("the configuration in `{folder}` has {}", count(.mistakes.len()))]
pub struct Mistakes {
    /// The folder, as it was given.
    pub folder: String,
    /// The mistakes, in the order of the files.
    #[related]
    pub mistakes: Vec<Mistake>,
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "one mistake".into() } else { format!("{mistakes} mistakes") }
}

/// A text file of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its path relative to the configuration folder.
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    pub(crate) fn mistake(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Mistake {
        Mistake {
            message: message.into(),
            help,
            file: self.name.clone(),
            written: NamedSource::new(&self.name, Arc::clone(&self.text)),
            span: span.map(SourceSpan::from),
        }
    }
}

/// Where the readers of one configuration put what they find, and note what they asked for.
#[derive(Debug, Default)]
pub(crate) struct Found {
    mistakes: RefCell<Vec<Mistake>>,
    forms: RefCell<Forms>,
    /// Whether they note it: only for a schema, or to hold a configuration against one.
    notes: bool,
}

impl Found {
    /// Notes what is asked for as well.
    pub(super) fn noting() -> Self {
        Self { notes: true, ..Self::default() }
    }

    /// Tells whether what is asked for is noted.
    pub(super) const fn notes(&self) -> bool {
        self.notes
    }

    pub(crate) fn push(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    pub(crate) fn into_inner(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }

    /// Notes the keys that a table was asked for.
    pub(super) fn note(&self, path: &str, variant: &[Mark], asked: &[(&'static str, Asked)]) {
        if self.notes {
            self.forms.borrow_mut().note(path, variant, asked);
        }
    }

    pub(super) fn forms(&self) -> Ref<'_, Forms> {
        self.forms.borrow()
    }
}
