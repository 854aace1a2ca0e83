//! Rows and parameters as PostgreSQL has them.

use futures::future::join_all;
use tokio_postgres::{
    Client, Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::fault::failure;
use crate::{
    error::Failure,
    row::{SqlStatement, StoredRow, Value},
};

/// Sends every question at once; the server answers them in order.
///
/// Each answer is read to its end beside the others: the connection goes on to the next one only when somebody takes
/// what it has of this one.
pub(super) async fn ask_each(
    client: &Client,
    questions: impl IntoIterator<Item = (&Statement, &SqlStatement)>,
) -> Result<Vec<Vec<StoredRow>>, Failure> {
    let answers = questions.into_iter().map(async |(statement, query)| {
        collect(client.query_raw(statement, &query.params).await.map_err(|why| failure(&why))?).await
    });
    join_all(answers).await.into_iter().collect()
}

/// Reads all that a statement answers.
async fn collect(rows: tokio_postgres::RowStream) -> Result<Vec<StoredRow>, Failure> {
    use futures::TryStreamExt as _;
    let rows: Vec<tokio_postgres::Row> = rows.try_collect().await.map_err(|why| failure(&why))?;
    rows.iter().map(read_row).collect()
}

fn read_row(row: &tokio_postgres::Row) -> Result<StoredRow, Failure> {
    let columns = row.columns().iter().enumerate().map(|(index, column)| {
        let value = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index).map(Value::from),
            Type::TEXT => row.try_get::<_, Option<String>>(index).map(Value::from),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index).map(Value::from),
            _ => return Err(Failure::Damaged("a column has another type".into())),
        };
        value.map_err(|_why| Failure::Damaged("a column has a value of another type".into()))
    });
    columns.collect::<Result<_, _>>().map(StoredRow)
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql_checked(ty, out),
            Self::Text(text) => text.as_ref().to_sql_checked(ty, out),
            Self::Bytes(bytes) => bytes.as_ref().to_sql_checked(ty, out),
        }
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
