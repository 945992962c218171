/**
 * One open connection: prepared statements by their text, transactions, and what must happen in
 * memory only once a transaction is on disk. Never leaves a half transaction.
 */
import type { Database, SqlValue, Statement } from './driver.ts'

export class Connection {
  readonly database: Database
  readonly #statements = new Map<string, Statement>()
  #afterCommit: (() => void)[] = []
  #writing = false

  constructor(database: Database) {
    this.database = database
  }

  /** @returns rows changed */
  run(sql: string, ...values: SqlValue[]): number {
    return Number(this.#prepared(sql).run(...values).changes)
  }

  get<Row>(sql: string, ...values: SqlValue[]): Row | undefined {
    return this.#prepared(sql).get(...values) as Row | undefined
  }

  all<Row>(sql: string, ...values: SqlValue[]): Row[] {
    return this.#prepared(sql).all(...values) as Row[]
  }

  /**
   * Rows one by one, for whole tables; one read of a text at a time. The statement is kept: the npm
   * driver frees one that nobody holds, also while it is read, and the process crashes.
   */
  iterate<Row>(sql: string): Iterable<Row> {
    return this.#prepared(sql).iterate() as Iterable<Row>
  }

  /** Takes the write lock at once: a lock that is upgraded later can fail half way. */
  write<Result>(work: () => Result): Result {
    if (this.#writing) throw new Error('Expected one transaction at a time, got a nested one.')
    this.#prepared('begin immediate').run()
    this.#writing = true
    try {
      const result = work()
      this.#prepared('commit').run()
      for (const step of this.#afterCommit) step()
      return result
    } catch (error) {
      this.#rollback()
      throw error
    } finally {
      this.#writing = false
      this.#afterCommit = []
    }
  }

  /** Zeroes what this work deletes or replaces, on every page and overflow page it leaves. */
  erasing<Result>(work: () => Result): Result {
    this.database.exec('pragma secure_delete = on')
    try {
      return work()
    } finally {
      this.database.exec('pragma secure_delete = off')
    }
  }

  /** @param busyMs how long this work waits for readers; everything else waits five seconds */
  waiting<Result>(busyMs: number, work: () => Result): Result {
    this.database.exec(`pragma busy_timeout = ${busyMs}`)
    try {
      return work()
    } finally {
      this.database.exec('pragma busy_timeout = 5000')
    }
  }

  /** Memory that mirrors rows changes only when the rows did. */
  afterCommit(step: () => void): void {
    this.#afterCommit.push(step)
  }

  close(): void {
    this.#statements.clear()
    this.database.close()
  }

  #prepared(sql: string): Statement {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #rollback(): void {
    try {
      this.database.exec('rollback')
    } catch {
      // A full disk or an I/O error has rolled back already; the first error is the one to tell.
    }
  }
}
