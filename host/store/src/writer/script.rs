//! One transaction as one text.
//!
//! sqlx hands every call over to a thread of its own; a hand-over costs as much as a small statement.
//! It runs all statements of a text in one hand-over, each taking as many of the bound values as it
//! has `?`. So the writer puts a whole group into one text. Its statements are constant pieces;
//! lists have lengths of powers of two (filled up with NULL rows, which the statement leaves out), so
//! that few different texts come up and sqlx's cache of prepared statements holds them all.
//!
//! The two tables that every group writes are written with REPLACE: without an index and without a
//! constraint that can fail it overwrites a row in place, and needs no journal of the statement.

use sqlx::Arguments;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Encode, Sqlite, Type};

/// Values in one text: far below SQLite's limit of 32,766, and enough for any usual group.
const VALUES_IN_A_CALL: usize = 1_024;
/// Rows in one statement.
const ROWS: usize = 64;

/// A statement over a list of rows.
#[derive(Debug)]
pub(crate) struct List {
    /// Up to the list.
    pub(super) before: &'static str,
    /// One row of the list.
    pub(super) row: &'static str,
    /// After the list.
    pub(super) after: &'static str,
    /// Values in a row.
    pub(super) width: usize,
}

pub(super) const PUT_SLOTS: List = List {
    before: "REPLACE INTO slot (id, body) SELECT column1, column2 FROM (VALUES ",
    row: "(?,?)",
    after: ") WHERE column1 IS NOT NULL;",
    width: 2,
};
pub(super) const PUT_SEGMENTS: List = List {
    before: "REPLACE INTO segment (first, directory) SELECT column1, column2 FROM (VALUES ",
    row: "(?,?)",
    after: ") WHERE column1 IS NOT NULL;",
    width: 2,
};
pub(super) const DELETE_SEGMENTS: List =
    List { before: "DELETE FROM segment WHERE first IN (", row: "?", after: ");", width: 1 };
pub(super) const PUT_CURSORS: List = List {
    before: "INSERT INTO cursor (endpoint, priority, next, checksum) \
             SELECT column1, column2, column3, column4 FROM (VALUES ",
    row: "(?,?,?,?)",
    after: ") WHERE column1 IS NOT NULL ON CONFLICT (endpoint, priority) \
            DO UPDATE SET next = excluded.next, checksum = excluded.checksum;",
    width: 4,
};
pub(super) const PUT_OWED: List = List {
    before: "REPLACE INTO owed (endpoint, sequence, priority, route, expires, bytes, attempt, state, \
             not_before, sender, checksum) SELECT column1, column2, column3, column4, column5, \
             column6, column7, column8, column9, column10, column11 FROM (VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?,?)",
    after: ") WHERE column1 IS NOT NULL;",
    width: 11,
};
pub(super) const DELETE_OWED: List = List {
    before: "DELETE FROM owed WHERE (endpoint, sequence) IN (VALUES ",
    row: "(?,?)",
    after: ");",
    width: 2,
};
pub(super) const PUT_DEAD_LETTERS: List = List {
    before: "INSERT INTO dead_letter (endpoint, sequence, route, at, attempts, reason, code, \
             module_digest, record, checksum) SELECT column1, column2, column3, column4, column5, \
             column6, column7, column8, column9, column10 FROM (VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?)",
    after: ") WHERE column1 IS NOT NULL;",
    width: 10,
};
pub(super) const DELETE_DEAD_LETTERS: List =
    List { before: "DELETE FROM dead_letter WHERE id IN (", row: "?", after: ");", width: 1 };
pub(super) const PUT_STATE: List = List {
    before: "INSERT INTO module_state (module, key, value, expires) \
             SELECT column1, column2, column3, column4 FROM (VALUES ",
    row: "(?,?,?,?)",
    after: ") WHERE column1 IS NOT NULL ON CONFLICT (module, key) \
            DO UPDATE SET value = excluded.value, expires = excluded.expires;",
    width: 4,
};
pub(super) const DELETE_STATE: List = List {
    before: "DELETE FROM module_state WHERE (module, key) IN (VALUES ",
    row: "(?,?)",
    after: ");",
    width: 2,
};
pub(super) const PUT_REVISION: List = List {
    before: "REPLACE INTO document_revision (id, last) SELECT 1, column1 FROM (VALUES ",
    row: "(?)",
    after: ") WHERE column1 IS NOT NULL;",
    width: 1,
};
pub(super) const PUT_DOCUMENTS: List = List {
    before: "INSERT INTO document (kind, key, revision, body) \
             SELECT column1, column2, column3, column4 FROM (VALUES ",
    row: "(?,?,?,?)",
    after: ") WHERE column1 IS NOT NULL ON CONFLICT (kind, key) \
            DO UPDATE SET revision = excluded.revision, body = excluded.body;",
    width: 4,
};
pub(super) const DELETE_DOCUMENTS: List = List {
    before: "DELETE FROM document WHERE (kind, key) IN (VALUES ",
    row: "(?,?)",
    after: ");",
    width: 2,
};
/// Every list, for the test that looks at the plans.
#[cfg(test)]
pub(crate) const LISTS: [&List; 13] = [
    &PUT_SLOTS,
    &PUT_SEGMENTS,
    &DELETE_SEGMENTS,
    &PUT_CURSORS,
    &PUT_OWED,
    &DELETE_OWED,
    &PUT_DEAD_LETTERS,
    &DELETE_DEAD_LETTERS,
    &PUT_STATE,
    &DELETE_STATE,
    &PUT_REVISION,
    &PUT_DOCUMENTS,
    &DELETE_DOCUMENTS,
];

impl List {
    /// The statement for so many rows.
    fn write(&self, rows: usize, sql: &mut String) {
        sql.push_str(self.before);
        for at in 0..rows {
            if at > 0 {
                sql.push(',');
            }
            sql.push_str(self.row);
        }
        sql.push_str(self.after);
    }

    /// The statement for two rows.
    #[cfg(test)]
    pub(crate) fn sample(&self) -> String {
        let mut sql = String::new();
        self.write(2, &mut sql);
        sql
    }
}

/// Values of rows, one after another.
#[derive(Debug, Default)]
pub(super) struct Values(pub(super) SqliteArguments);

impl Values {
    /// Adds a value.
    pub(super) fn add<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) {
        self.0.add(value).expect("numbers, texts and bytes can always be encoded");
    }
}

#[derive(Debug, Default)]
struct Call {
    sql: String,
    values: Values,
}

/// The transaction that is being put together.
#[derive(Debug)]
pub(crate) struct Script {
    calls: Vec<Call>,
    pages: usize,
}

impl Script {
    pub(super) fn new() -> Self {
        let first = Call { sql: "BEGIN IMMEDIATE;".to_owned(), ..Call::default() };
        Self { calls: vec![first], pages: 0 }
    }

    /// Adds a statement over `rows`; `bind` adds the values of one row.
    pub(super) fn list<T>(
        &mut self,
        list: &List,
        rows: impl IntoIterator<Item = T>,
        mut bind: impl FnMut(&mut Values, T),
    ) {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            if self.calls.last().is_some_and(|call| call.values.0.len() >= VALUES_IN_A_CALL) {
                self.calls.push(Call::default());
            }
            let call = self.calls.last_mut().expect("a script has at least one call");
            let mut count = 0;
            while count < ROWS
                && let Some(row) = rows.next()
            {
                bind(&mut call.values, row);
                count += 1;
            }
            // Slots and directories are large; of the others many share a page.
            self.pages += if list.width == 2 { count } else { 1 };
            let filled = count.next_power_of_two();
            for _ in 0..(filled - count) * list.width {
                call.values.add(None::<i64>);
            }
            list.write(filled, &mut call.sql);
        }
    }

    /// Pages that it writes, about.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Runs the transaction to its commit.
    pub(crate) async fn run(
        mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        self.calls.last_mut().expect("a script has at least one call").sql.push_str("COMMIT;");
        for call in self.calls {
            let query = sqlx::query_with(AssertSqlSafe(call.sql), call.values.0);
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}
