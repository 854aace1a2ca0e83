//! What must not compile: forging a warrant, copying one, spending one twice or on another tool, opening a
//! credential without authority.

#[test]
fn the_pipeline_cannot_be_left() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile-fail/*.rs");
}
