# A database in the middle of its transactions: with a log that is mapped, and memory that is shared.
import sqlite3, time

c = sqlite3.connect("w.db")
c.execute("pragma journal_mode=wal")
c.execute("create table t(a)")
for i in range(40):
    c.execute("insert into t values(?)", (i,))
    c.commit()
    time.sleep(0.02)
print(c.execute("select count(*), sum(a) from t").fetchall())
c.close()
c = sqlite3.connect("w.db")
print(c.execute("select count(*), sum(a) from t").fetchall())
print(c.execute("pragma integrity_check").fetchall())
