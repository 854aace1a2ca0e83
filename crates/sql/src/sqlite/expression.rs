//! Expressions, and the functions they call.

use sqlite3_parser::ast::{Expr, FrameBound, FunctionCallOrder, FunctionTail, Literal, Over, Window};

use super::functions;
use super::walk::{Walk, folded};
use crate::statement::{
    Category::{self, Opaque},
    Effect::Write,
    FunctionRef, TableRef,
};

impl Walk {
    pub(super) fn list(&mut self, expressions: Option<&[Expr<'_>]>) {
        for expression in expressions.unwrap_or_default() {
            self.expr(expression);
        }
    }

    pub(super) fn opt(&mut self, expression: Option<&Expr<'_>>) {
        if let Some(expression) = expression {
            self.expr(expression);
        }
    }

    pub(super) fn expr(&mut self, expression: &Expr<'_>) {
        if !self.enter() {
            return;
        }
        match expression {
            Expr::Between { lhs, not: _, start, end } => {
                [lhs, start, end].into_iter().for_each(|expr| self.expr(expr))
            }
            Expr::Binary(left, _, right) => {
                self.expr(left);
                self.expr(right);
            }
            Expr::Case { base, when_then_pairs, else_expr } => {
                self.opt(*base);
                for (when, then) in *when_then_pairs {
                    self.expr(when);
                    self.expr(then);
                }
                self.opt(*else_expr);
            }
            Expr::Cast { expr, type_name: _ } | Expr::Collate(expr, _) => self.expr(expr),
            Expr::IsNull(expr) | Expr::NotNull(expr) | Expr::Unary(_, expr) => self.expr(expr),
            Expr::DoublyQualified(schema, table, column) => {
                let table = TableRef { schema: Some(folded(schema.0)), name: folded(table.0) };
                if self.sketch.wants(&table) {
                    self.sketch.column(&table, &folded(column.0));
                }
            }
            Expr::Qualified(qualifier, column) => self.sketch.qualified(qualifier.0, column.0),
            Expr::Id(sqlite3_parser::ast::Id(raw)) | Expr::Name(sqlite3_parser::ast::Name(raw)) => {
                self.sketch.bare(raw)
            }
            Expr::Exists(select) | Expr::Subquery(select) => self.select(select),
            Expr::FunctionCall { name, distinctness: _, args, order_by, filter_over } => {
                self.called(&folded(name.0));
                self.list(*args);
                if let Some(FunctionCallOrder::SortList(columns)) = order_by {
                    self.sorted(Some(columns));
                }
                self.tail(filter_over.as_ref());
            }
            Expr::FunctionCallStar { name, filter_over } => {
                self.called(&folded(name.0));
                self.tail(filter_over.as_ref());
            }
            Expr::InList { lhs, not: _, rhs } => {
                self.expr(lhs);
                self.list(*rhs);
            }
            Expr::InSelect { lhs, not: _, rhs } => {
                self.expr(lhs);
                self.select(rhs);
            }
            Expr::InTable { lhs, not: _, rhs, args } => {
                self.expr(lhs);
                match args {
                    Some(args) => {
                        self.table_function(folded(rhs.name.0));
                        self.list(Some(args));
                    }
                    None => self.reads(rhs, None),
                }
            }
            Expr::Like { lhs, not: _, op: _, rhs, escape } => {
                self.expr(lhs);
                self.expr(rhs);
                self.opt(*escape);
            }
            Expr::Literal(literal) => match literal {
                Literal::Numeric(_)
                | Literal::String(_)
                | Literal::Blob(_)
                | Literal::Keyword(_)
                | Literal::Null
                | Literal::CurrentDate
                | Literal::CurrentTime
                | Literal::CurrentTimestamp => {}
            },
            Expr::Parenthesized(parts) => parts.iter().for_each(|expr| self.expr(expr)),
            Expr::Raise(_, message) => self.opt(*message),
            Expr::Variable(name) => {
                // The tree leaves out the question mark.
                let named = name.starts_with([':', '@', '$', '#']);
                self.found.parameters.insert(if named { (*name).to_owned() } else { format!("?{name}") });
            }
        }
        self.leave();
    }

    pub(super) fn tail(&mut self, tail: Option<&FunctionTail<'_>>) {
        let Some(FunctionTail { filter_clause, over_clause }) = tail else { return };
        self.opt(*filter_clause);
        match over_clause {
            Some(Over::Window(window)) => self.window(window),
            Some(Over::Name(_)) | None => {}
        }
    }

    pub(super) fn window(&mut self, window: &Window<'_>) {
        let Window { base: _, partition_by, order_by, frame_clause } = window;
        self.list(*partition_by);
        self.sorted(*order_by);
        let Some(frame) = frame_clause else { return };
        for bound in [Some(&frame.start), frame.end.as_ref()].into_iter().flatten() {
            match bound {
                FrameBound::Following(expr) | FrameBound::Preceding(expr) => self.expr(expr),
                FrameBound::CurrentRow | FrameBound::UnboundedFollowing | FrameBound::UnboundedPreceding => {}
            }
        }
    }

    pub(super) fn table_function(&mut self, name: String) {
        if name.starts_with("pragma_") {
            self.found.categories.insert(Category::Catalog);
        }
        if let Some((effect, categories, text)) = functions::harmful(&name) {
            self.found.raise(
                effect,
                categories,
                "function",
                format!("table-valued function `{name}` {text}"),
            );
        } else if !functions::table_valued(&name) {
            let text = format!("table-valued function `{name}` is not known to change nothing");
            self.found.raise(Write, &[Opaque], "unknown_function", text);
        }
        self.found.functions.insert(FunctionRef { schema: None, name });
    }

    pub(super) fn called(&mut self, name: &str) {
        // What is known to be harmful is so even while it is only compiled.
        if let Some((effect, categories, text)) = functions::harmful(name) {
            self.found.raise(effect, categories, "function", format!("function `{name}` {text}"));
        } else if !functions::harmless(name) {
            self.found.raise(
                Write,
                &[Opaque],
                "unknown_function",
                format!("function `{name}` is not known to change nothing"),
            );
        }
        self.found.functions.insert(FunctionRef { schema: None, name: name.to_owned() });
    }
}
