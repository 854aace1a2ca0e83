//! What may happen: calls, facts, Cedar policies, budgets, rates, approvals. Pure.
