//! Every statement is prepared against the real schema, and none that runs for messages walks through
//! a table: what SQL loses without a compile-time check.

use crate::open::schema;
use crate::writer::script;
use crate::{dead_letter, open, read};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

async fn database() -> SqliteConnection {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    schema::migrate(&mut connection, 0).await.unwrap();
    connection
}

async fn plan(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
    let rows = connection.fetch_all(AssertSqlSafe(explain)).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

#[tokio::test]
async fn no_statement_of_the_hot_path_walks_through_a_table() {
    let mut connection = database().await;
    let mut statements: Vec<String> = script::LISTS.iter().map(|list| list.sample()).collect();
    statements.extend([read::SEGMENT_OF, read::SEGMENTS_FROM].map(str::to_owned));
    statements.push(read::slots_sql(4));
    statements.extend([dead_letter::ONE, dead_letter::STATE].map(str::to_owned));
    statements.push(dead_letter::LIST_OF_ENDPOINT.to_owned());
    for sql in statements {
        for step in plan(&mut connection, &sql).await {
            // The list of values of the statement itself is walked through, tables are not.
            let own_list = step.ends_with("VALUES CLAUSE") || step.contains("CONSTANT ROW");
            assert!(!step.starts_with("SCAN") || own_list, "{sql}\n{step}");
        }
    }
}

#[tokio::test]
async fn every_other_statement_can_be_prepared() {
    let mut connection = database().await;
    for sql in open::STATEMENTS.iter().chain(&[dead_letter::LIST]) {
        plan(&mut connection, sql).await;
    }
}
