//! Which journal a file keeps: what another, a copy or an older state of it says of a call is not believed.

use countersign_gate::{Doubt, MeasureError, Recalled};
use countersign_rules::CallId;

use super::*;

const SHOP: &str = "create table t (id integer primary key, n); insert into t values (1, 1), (2, 2);";

/// Says why a recall says nothing.
fn disbelief(asked: Result<Recalled, MeasureError>) -> String {
    match asked {
        Err(MeasureError::System(why)) => why,
        other => panic!("believed: {other:?}"),
    }
}

#[tokio::test]
async fn another_file_is_not_believed_and_not_fenced() {
    let (one, other) = (World::new(SHOP).await, World::new(SHOP).await);
    let mark = one.mark().await;
    let doubt = one.doubt(&mark.call).await;
    let why = disbelief(other.database.recall(&doubt).await);
    assert!(why.contains("leads to another database"), "{why}");
    assert_eq!(other.count("select count(*) from countersign_call"), 0, "nothing was fenced there");
    // Nor does a call take effect in a file that its intent does not name.
    let before = dump(&other.other);
    let work = other.work("delete from t").unwrap();
    let message = other.failure(other.database.write(work, &up_to(10), Some(mark))).await;
    assert!(message.contains("propose it again"), "{message}");
    assert_eq!(dump(&other.other), before);
    // One that names none was issued when the file could not be asked.
    let unnamed = Mark { journal: None, ..other.mark().await };
    let message = other
        .failure(other.database.write(other.work("delete from t").unwrap(), &up_to(10), Some(unnamed)))
        .await;
    assert!(message.contains("was not known"), "{message}");
    let nowhere = Doubt { journal: None, ..other.doubt(&CallId::parse("call-x").unwrap()).await };
    assert_eq!(other.database.recall(&nowhere).await.unwrap(), Recalled::Unknown);
}

#[tokio::test]
async fn a_copy_tells_what_happened_before_it_and_nothing_else() {
    let world = World::new(SHOP).await;
    let call = world.done("delete from t where id = 1").await;
    let file = world.folder.path().join("shop.db");
    let copied = world.folder.path().join("copy.db");
    world.other.execute("vacuum into ?1", [copied.to_str().unwrap()]).unwrap();
    let (happened, missing) =
        (world.doubt(&call).await, world.doubt(&CallId::parse("call-x").unwrap()).await);
    // The copy takes the file's place while the server has the old one open.
    for name in ["shop.db-wal", "shop.db-shm"] {
        let _absent = std::fs::remove_file(world.folder.path().join(name));
    }
    std::fs::rename(&copied, &file).unwrap();
    let mark = Mark { journal: happened.journal.clone(), ..world.mark().await };
    let work = world.work("delete from t").unwrap();
    let error = world.database.write(work, &up_to(10), Some(mark)).await.unwrap_err();
    assert!(error.to_string().contains("leads elsewhere now"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let now = World::over(folder, &file, Connection::open(&file).unwrap(), settings());
    for asked in [&world, &now] {
        let recalled = asked.database.recall(&happened).await.unwrap();
        assert_eq!(recalled, Recalled::Happened { rows: 1, amount: None });
        let why = disbelief(asked.database.recall(&missing).await);
        assert!(why.contains("proves nothing"), "{why}");
    }
    assert_eq!(now.count("select count(*) from countersign_call"), 1);
    // What is proposed from now on goes to the file that is there, and can be undone.
    let call = world.done("delete from t").await;
    assert_eq!(now.count("select count(*) from t"), 0);
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(now.count("select count(*) from t"), 1);
}

#[tokio::test]
async fn an_older_state_of_the_same_file_has_forgotten() {
    let world = World::new(SHOP).await;
    world.done("update t set n = 0 where id = 1").await;
    let witness = world.done("update t set n = 0 where id = 2").await;
    let doubt = world.doubt(&CallId::parse("call-x").unwrap()).await;
    let doubt = Doubt { witness: Some(witness), ..doubt };
    // As a backup that was restored in place would be: the file has the number that it had.
    let older = "delete from countersign_image where call = ?1";
    for older in [older, "delete from countersign_call where id = ?1"] {
        world.other.execute(older, [doubt.witness.as_ref().unwrap().as_str()]).unwrap();
    }
    let why = disbelief(world.database.recall(&doubt).await);
    assert!(why.contains("older state"), "{why}");
    assert_eq!(world.count("select count(*) from countersign_call where state = 'fenced'"), 0);
    // Without the witness it would have been believed: that is what it is for.
    let blind = Doubt { witness: None, ..doubt };
    assert_eq!(world.database.recall(&blind).await.unwrap(), Recalled::Never);
}

#[tokio::test]
async fn preparing_again_keeps_the_name_and_adds_it_where_it_was_missing() {
    let world = World::new(SHOP).await;
    let name = || {
        world
            .other
            .query_row("select name from countersign_journal", [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    let first = name();
    assert_eq!(first.len(), 32);
    world.database.prepare(&[]).await.unwrap();
    assert_eq!(name(), first);
    // As an older version prepared it: nothing is written until it is prepared again.
    world.other.execute_batch("drop table countersign_journal").unwrap();
    world.database.known.set(None);
    assert_eq!(world.database.identity().await, None);
    let message = world.failure(world.call("delete from t")).await;
    assert!(message.contains("countersign system prepare"), "{message}");
    world.database.prepare(&[]).await.unwrap();
    assert_ne!(name(), first);
    world.done("delete from t").await;
}

#[tokio::test]
async fn keys_of_changed_rows_are_masked() {
    let world = World::new("create table person (mail text, n integer, primary key (mail, n)); insert into person values ('secret@x', 1);").await;
    let call = world.done("delete from person").await;
    world.other.execute_batch("insert into person values ('secret@x', 1)").unwrap();
    let mask = Mask::new(&["mail".to_owned()].into());
    let undoing = undoing(&call, OnChange::Refuse);
    let mark = world.mark().await;
    let error = world.database.undo(mark, &undoing, &up_to(10), &mask).await.unwrap_err().to_string();
    let measured = world.database.undo_measure(&undoing, &mask).await.unwrap_err().to_string();
    for said in [error, measured] {
        assert!(said.contains("person (•••, 1)") && !said.contains("secret"), "{said}");
    }
}
