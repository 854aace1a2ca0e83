//! Code that a statement runs: functions, operators, conversions, and what a catalog shows of those that are not
//! PostgreSQL's own.
//!
//! PostgreSQL resolves all of them by name along the search path. Whatever *may* be meant counts: the strictest of the
//! candidates decides.

use std::borrow::Cow;

use super::extensions::{self, Extensions};
use super::functions::{self, BuiltIn};
use super::implicit::Reading;
use super::walk::{Folds, Walk};
use crate::catalog::{Name, Routine, RoutineKind, Volatility};
use crate::known::Known;
use crate::statement::{Category, Effect, FunctionRef};

/// Functions that call functions: deeper than this is not a read.
const ROUTINE_DEPTH_MAX: usize = 16;

/// Functions looked into for one statement: more than this are not reads.
const ROUTINES_MAX: usize = 256;

impl Walk<'_> {
    /// A call of a function by its name. `one`: with one argument.
    pub(super) fn calls(&mut self, schema: Option<&str>, name: &str, one: bool) {
        let shown = FunctionRef { schema: schema.map(str::to_owned), name: name.to_owned() };
        let in_catalog = matches!(schema, None | Some("pg_catalog"));
        let built_in = if in_catalog { functions::built_in(name) } else { BuiltIn::Unknown };
        // None of these is immutable: they are not worked out in advance.
        if let BuiltIn::Harmful((effect, categories, text)) = built_in
            && self.folds.is_none()
            && !(self.planned_only && functions::never_planned(categories))
        {
            self.raise(effect, categories, "function", format!("function `{shown}` {text}"));
        }
        if in_catalog && functions::polymorphic(name) {
            self.met.reads(Reading::Elements);
        }
        let own = match built_in {
            // `regtype('text')` converts like `'text'::regtype`: no function needs to have that name.
            BuiltIn::Unknown => {
                (one && in_catalog && functions::converts_by_name(name))
                    || functions::information_schema_function(schema, name)
                    || self.brought(schema, |extensions| extensions.function(name))
            }
            BuiltIn::Harmless | BuiltIn::Harmful(_) => true,
        };
        self.told_by(name, own);
        let Some(known) = self.known else {
            if !own {
                self.unseen(
                    "unknown_function",
                    &format!("function `{shown}` is not known to change nothing"),
                );
            }
            return;
        };
        self.met.populates |= functions::populates(name);
        let mut candidates = known.routines(schema, name, self.anywhere).peekable();
        if candidates.peek().is_none() && !own {
            self.unseen("unknown_function", &format!("function `{shown}` is not known to change nothing"));
        }
        for routine in candidates {
            // Planning evaluates no volatile function, and puts the text of none but those in SQL in its place.
            let told = !matches!(routine.language.as_str(), "" | "sql");
            if self.planned_only && told && routine.volatility == Volatility::Volatile {
                self.meets_types(routine);
                self.defaults(routine);
                continue;
            }
            self.runs(routine, &shown.to_string(), own);
        }
    }

    /// `t.f` and `(expression).f`: a call of `f` with one argument, unless there is a column of that name.
    pub(super) fn attribute(&mut self, name: &str) {
        self.told_by(name, true);
        if let BuiltIn::Harmful((effect, categories, text)) = functions::built_in(name) {
            if !(self.planned_only && functions::never_planned(categories)) {
                self.raise(
                    effect,
                    categories,
                    "function",
                    format!("`{name}` may be a call of the function of that name, which {text}"),
                );
            }
            self.found.functions.insert(FunctionRef { schema: None, name: name.to_owned() });
        }
        let Some(known) = self.known else { return };
        let column = known.has_column(name);
        for routine in known.routines(None, name, self.anywhere) {
            // One that is known to take an argument may be meant even where another table has such a column.
            if !column || !routine.arguments.is_empty() {
                let shown =
                    format!("{name}` as an attribute, which may be a call of `{}.{name}", routine.schema);
                self.runs(routine, &shown, column);
            }
        }
    }

    /// A use of an operator by its name.
    pub(super) fn operates(&mut self, schema: Option<&str>, name: &str) {
        let own = (matches!(schema, None | Some("pg_catalog")) && functions::operator(name))
            || self.brought(schema, |extensions| extensions.operator(name));
        let unknown = |walk: &mut Self| {
            walk.unseen("unknown_operator", &format!("operator `{name}` is not one of PostgreSQL's own"));
        };
        let Some(known) = self.known else {
            if !own {
                unknown(self);
            }
            return;
        };
        let mut candidates = known.operators(schema, name, self.anywhere).peekable();
        if candidates.peek().is_none() && !own {
            unknown(self);
        }
        for operator in candidates {
            let shown = format!("operator `{}.{name}`", operator.schema);
            self.runs_named(&operator.function, &shown, own);
        }
    }

    /// Whether an extension that the database is said to have brings an object: unqualified, or in a schema where
    /// unqualified names are looked up.
    fn brought(&self, schema: Option<&str>, has: impl FnOnce(&Extensions) -> bool) -> bool {
        let Some(known) = self.known else { return false };
        let place = |schema| schema != "pg_catalog" && known.catalog().schemas(None).any(|one| one == schema);
        schema.is_none_or(place) && has(&known.extensions)
    }

    /// Operators that a piece of syntax stands for, without a catalog known to be PostgreSQL's own.
    pub(super) fn implied_operators(&mut self, names: &[&str]) {
        for name in names {
            self.operates(None, name);
        }
    }

    /// A conversion to a type by its name. `like_column`: the type of a column (`t.c%TYPE`).
    pub(super) fn converts(&mut self, schema: Option<&str>, name: &str, like_column: bool) {
        let base = name.strip_prefix('_').unwrap_or(name);
        let own = !like_column && self.is_own_type(schema, name);
        // A literal that is kept was converted when it was written.
        if self.folds.is_none() && (!self.type_is_known(schema, base, own, 0) || like_column) {
            let shown = FunctionRef { schema: schema.map(str::to_owned), name: name.to_owned() };
            self.unseen(
                "unknown_type",
                &format!(
                    "a conversion to type `{shown}`, which is not one of PostgreSQL's own, may run code"
                ),
            );
        }
        let Some(known) = self.known else { return };
        for one in known.types(schema, base, self.anywhere) {
            self.meets(&one.schema, &one.name);
        }
        self.met.asked.extend(known.casts_to(base).map(|cast| (cast, own)));
    }

    /// Whether a type is PostgreSQL's own, or of an extension that is named.
    pub(super) fn is_own_type(&self, schema: Option<&str>, name: &str) -> bool {
        let base = name.strip_prefix('_').unwrap_or(name);
        (matches!(schema, None | Some("pg_catalog")) && functions::type_name(name))
            || functions::information_schema_type(schema, name)
            || self.brought(schema, |extensions| extensions.type_name(base))
    }

    pub(super) fn type_is_known(
        &mut self,
        schema: Option<&str>,
        name: &str,
        own: bool,
        depth: usize,
    ) -> bool {
        let Some(known) = self.known else { return own };
        if depth > ROUTINE_DEPTH_MAX {
            return false;
        }
        let identity = (self.circumstances(), own, schema.map(str::to_owned), name.to_owned());
        if let Some(harmless) = self.types.get(&identity) {
            return *harmless;
        }
        // A type that is made of itself is none that PostgreSQL makes.
        self.types.insert(identity.clone(), false);
        // A literal is read while the statement is parsed, its type's functions and conditions with it, also where the
        // statement is only planned.
        let planned = std::mem::replace(&mut self.planned_only, false);
        let harmless = self.type_is_harmless(known, schema, name, own, depth);
        self.planned_only = planned;
        self.types.insert(identity, harmless);
        harmless
    }

    fn type_is_harmless(
        &mut self,
        known: &Known,
        schema: Option<&str>,
        name: &str,
        own: bool,
        depth: usize,
    ) -> bool {
        let mut harmless = own;
        for candidate in known.types(schema, name, self.anywhere) {
            for part in &candidate.of {
                let schema = Some(part.schema.as_str());
                let own = part.schema == "pg_catalog" && functions::type_name(&part.name)
                    || functions::information_schema_type(schema, &part.name);
                let base = part.name.strip_prefix('_').unwrap_or(&part.name);
                if !self.type_is_known(schema, base, own, depth.saturating_add(1)) {
                    return false;
                }
            }
            let shown = format!("a conversion to type `{}.{}`", candidate.schema, candidate.name);
            for function in &candidate.calls {
                // A type can name none of PostgreSQL's own functions but those that convert, and store its modifiers.
                if !own_conversion(function) {
                    self.runs_named(function, &shown, own);
                }
            }
            for check in &candidate.checks {
                self.expression_text(check, &format!("the condition of type `{}`", candidate.name));
            }
            harmless = true;
        }
        harmless
    }

    /// A function that an object names: by its schema, so that no search path has a say. `namesake`: without a catalog the
    /// object would be taken for one of PostgreSQL's own, or of an extension's.
    pub(super) fn runs_named(&mut self, function: &Name, by: &str, namesake: bool) {
        if function.schema == "pg_catalog" && matches!(functions::built_in(&function.name), BuiltIn::Harmless)
        {
            return;
        }
        let Some(known) = self.known else { return };
        let mut candidates = known.routines(Some(&function.schema), &function.name, false).peekable();
        if candidates.peek().is_none() {
            let Name { schema, name } = function;
            self.unseen("unknown_function", &format!("{by} runs `{schema}.{name}`, which is not known"));
        }
        for routine in candidates {
            self.runs_as(routine, &format!("{}` of {by} `", routine.name), namesake, "");
        }
    }

    /// Runs one routine that may be meant. `namesake`: PostgreSQL, or a table, has something of the same name.
    fn runs(&mut self, routine: &Routine, shown: &str, namesake: bool) {
        let word = if namesake { "has a namesake in the search path, which " } else { "" };
        self.runs_as(routine, shown, namesake, word);
    }

    /// The same, with words that say how it comes to run.
    fn runs_as(&mut self, routine: &Routine, shown: &str, namesake: bool, word: &str) {
        // The text of one in SQL may be put in its place, and bring constants of its own.
        if let Some(folds) = self.folds
            && !matches!(routine.language.as_str(), "" | "sql")
            && (folds == Folds::Varying || routine.volatility != Volatility::Immutable)
        {
            return;
        }
        self.meets_types(routine);
        self.defaults(routine);
        let Some(why) = self.not_proved(routine) else {
            self.vouch(routine, shown, namesake);
            return;
        };
        let code =
            if routine.volatility == Volatility::Volatile { "volatile_function" } else { "unseen_function" };
        self.unseen(code, &format!("function `{shown}` {word}{why}"));
    }

    /// What stands in for arguments that a call leaves out runs in the calling statement, whatever the routine is declared to
    /// be.
    fn defaults(&mut self, routine: &Routine) {
        let Some(defaults) = routine.defaults.as_deref() else { return };
        let name = format!("{}.{}({})", routine.schema, routine.name, routine.arguments);
        if self.defaults.insert((self.circumstances(), name)) {
            self.expression_text(
                defaults,
                &format!("a default of function `{}.{}`", routine.schema, routine.name),
            );
        }
    }

    /// Says of a routine that is proved to change nothing what it may still do. Native code beside something of the same name
    /// that would be run without a catalog is nothing that a catalog should stand in the way of.
    fn vouch(&mut self, routine: &Routine, shown: &str, namesake: bool) {
        let native = matches!(routine.language.as_str(), "c" | "internal");
        if !routine.vouched && native && (namesake || extensions::bundled(&routine.name)) {
            return;
        }
        let owner = if routine.security_definer { ", with its owner's privileges," } else { "" };
        let seen = routine.body.is_some() || routine.kind == RoutineKind::Aggregate;
        if !routine.vouched && (seen || routine.volatility == Volatility::Immutable) {
            if routine.security_definer {
                self.found
                    .note("definer_function", format!("function `{shown}` runs with its owner's privileges"));
            }
            return;
        }
        let code = if routine.vouched { "declared_function" } else { "native_function" };
        self.found.categories.insert(Category::Opaque);
        self.found.note(code, format!("function `{shown}` may read{owner} tables that are not shown here"));
    }

    /// Why a routine is not proved to change nothing. What its text does is found while it is walked.
    fn not_proved(&mut self, routine: &Routine) -> Option<&'static str> {
        if routine.kind == RoutineKind::Procedure {
            return Some("is a procedure: it may do anything");
        }
        let native = matches!(routine.language.as_str(), "c" | "internal");
        // A text in SQL shows all that it does, whatever it is declared to be.
        let shown = routine.language == "sql" && routine.body.is_some();
        if routine.volatility == Volatility::Volatile
            && !shown
            && !(native && extensions::bundled_volatile(&routine.name))
        {
            return Some("is declared volatile: it may do anything");
        }
        if routine.vouched {
            return None;
        }
        let name = format!("{}.{}({})", routine.schema, routine.name, routine.arguments);
        let identity = (self.circumstances(), name);
        if self.routines.contains(&identity) {
            // Being looked into, or looked into before: what was found then counts already.
            return None;
        }
        if self.routine_depth >= ROUTINE_DEPTH_MAX || self.routines.len() >= ROUTINES_MAX {
            return Some("calls too many others to be looked into");
        }
        self.routines.insert(identity);
        if routine.kind == RoutineKind::Aggregate {
            for part in &routine.calls {
                self.runs_named(part, &format!("aggregate `{}`", routine.name), false);
            }
            return None;
        }
        match (routine.language.as_str(), routine.body.as_deref()) {
            // Native code is put there by the superuser, who says what it does, unless it is known under another name.
            ("c" | "internal", _) => routine.calls.iter().find_map(|code| functions::harm(&code.name)),
            ("sql", Some(body)) => {
                if self.body(routine, body) {
                    None
                } else {
                    Some("has a text that is not understood")
                }
            }
            _ => Some(
                "promises to change nothing, but may call functions that do: its text is not seen through",
            ),
        }
    }

    /// Walks the text of a function in SQL. Whether it could be.
    fn body(&mut self, routine: &Routine, body: &str) -> bool {
        let Some(known) = self.known else { return false };
        let Some(statements) = known.texts.parsed(&query(body)) else { return false };
        let (anywhere, planned, folds) = (self.anywhere, self.planned_only, self.folds.take());
        let parameters = std::mem::take(&mut self.found.parameters);
        self.anywhere |= routine.search_path.is_some();
        self.planned_only = false;
        self.routine_depth = self.routine_depth.saturating_add(1);
        self.within(|walk| {
            for statement in statements.iter() {
                if let Some(node) = &statement.stmt {
                    // Texts stand in texts: each may be as deep as the one that was sent.
                    crate::with_stack(|| walk.node(node));
                }
            }
        });
        self.routine_depth = self.routine_depth.saturating_sub(1);
        self.planned_only = planned;
        self.anywhere = anywhere;
        self.folds = folds;
        self.found.parameters = parameters;
        true
    }

    /// Walks an expression that the database keeps: of a policy, of a domain.
    pub(super) fn expression_text(&mut self, text: &str, of: &str) {
        let Some(known) = self.known else { return };
        let Some(statements) = known.texts.parsed(&format!("SELECT {text}")) else {
            self.unseen("unknown_node", &format!("{of} is not understood"));
            return;
        };
        self.kept(&statements);
    }

    /// Walks an expression, or a list of them, that planning works out as far as no column stands in it.
    pub(super) fn folded(&mut self, text: &str, of: &str) {
        let (planned, outer) = (self.planned_only, self.folds);
        (self.planned_only, self.folds) = (true, Some(Folds::Constant));
        self.expression_text(text, of);
        (self.planned_only, self.folds) = (planned, outer);
    }

    /// Walks statements that stand in no text that was sent: the database keeps them.
    pub(super) fn kept(&mut self, statements: &[pg_query::protobuf::RawStmt]) {
        let outer = self.hidden;
        self.hidden = self.hidden.saturating_add(1);
        self.within(|walk| {
            for statement in statements {
                if let Some(node) = &statement.stmt {
                    crate::with_stack(|| walk.node(node));
                }
            }
        });
        self.hidden = outer;
    }

    /// What cannot be seen is not a read, even when it is only planned: planning may run it.
    fn unseen(&mut self, code: &'static str, text: &str) {
        self.raise(Effect::Write, &[Category::Opaque], code, text);
    }
}

/// What a function in SQL runs: its text, or the form that PostgreSQL shows of one that was parsed when it was created
/// (`RETURN …`, `BEGIN ATOMIC … END`).
fn query(body: &str) -> Cow<'_, str> {
    let text = body.trim();
    if let Some(expression) = text.strip_prefix("RETURN ") {
        return Cow::Owned(format!("SELECT {expression}"));
    }
    let atomic = text.strip_prefix("BEGIN ATOMIC").and_then(|rest| rest.trim_end().strip_suffix("END"));
    Cow::Borrowed(atomic.unwrap_or(text))
}

/// Whether a function of a type is PostgreSQL's own, and one that converts.
fn own_conversion(function: &Name) -> bool {
    function.schema == "pg_catalog" && !matches!(functions::built_in(&function.name), BuiltIn::Harmful(_))
}
