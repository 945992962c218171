/**
 * The way to the database: statements by their text, transactions, deadlines, and errors in the words
 * of the contract. Knows no table. In every statement `kmsg.` stands for the schema's name.
 */
import { createHash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { WebhookError } from '../../model/errors.ts'
import { NoAnswer, storageError, troubleOf } from './errors.ts'
import { type ClientClass, inspect } from './servers.ts'

export type SqlValue = string | number | boolean | null | Uint8Array

export interface QueryConfig {
  readonly text: string
  readonly values?: unknown[]
  readonly name?: string
  readonly types?: { getTypeParser(oid: number, format?: string): (value: string) => unknown }
}

export interface QueryResult {
  readonly rows: unknown[]
  readonly rowCount: number | null
}

/** The part of a `pg` client that we use, typed by shape: also for clients that are handed in. */
export interface Queryable {
  query(config: QueryConfig): Promise<QueryResult>
}

export interface PoolClient extends Queryable {
  release(destroy?: boolean | Error): void
  on?(event: 'error', listener: (error: Error) => void): unknown
  readonly processID?: number | null
  /** Known of connections of our own; the app's are asked. */
  readonly isPooled?: boolean
}

/** The part of a `pg` pool that we use. */
export interface Pool {
  connect(): Promise<PoolClient>
  end(): Promise<void>
  on(event: 'error', listener: (error: Error) => void): unknown
  off?(event: 'error', listener: (error: Error) => void): unknown
  /** What its connections are made with, for one more that listens. */
  readonly options?: object
  readonly Client?: ClientClass
}

const int8 = 20
const numbers: readonly number[] = [int8, 21, 23, 26, 700, 701, 1700]
const boolean = 16
const bytea = 17

/** Ours for every query: an app may have changed those of its own pool. */
const types = {
  getTypeParser(oid: number): (value: string) => unknown {
    if (numbers.includes(oid)) return Number
    if (oid === boolean) return (value) => value === 't'
    if (oid === bytea) return fromHex
    return (value) => value
  },
}

function fromHex(value: string): Uint8Array {
  const { buffer, byteOffset, length } = Buffer.from(value.slice(2), 'hex')
  return new Uint8Array(buffer, byteOffset, length)
}

/** Of a statement that is made for one time. */
const longWorkMs = 600_000

/** Statements on one connection, inside a transaction or not. */
export class Connection {
  readonly #client: Queryable
  readonly #schema: Schema
  readonly #answerWithinMs: number
  /** Planned once per connection, and kept there under a name. */
  readonly #isPrepared: boolean

  constructor(client: Queryable, schema: Schema, answerWithinMs: number, isPrepared: boolean) {
    this.#client = client
    this.#schema = schema
    this.#answerWithinMs = answerWithinMs
    this.#isPrepared = isPrepared
  }

  async all<Row>(sql: string, ...values: SqlValue[]): Promise<Row[]> {
    return (await this.#query(sql, values)).rows as Row[]
  }

  async get<Row>(sql: string, ...values: SqlValue[]): Promise<Row | undefined> {
    return (await this.all<Row>(sql, ...values))[0]
  }

  /** @returns rows changed */
  async run(sql: string, ...values: SqlValue[]): Promise<number> {
    return (await this.#query(sql, values)).rowCount ?? 0
  }

  /** Planned for these very values, so that it opens only the partitions that they lead to. */
  async planned<Row>(sql: string, ...values: SqlValue[]): Promise<Row[]> {
    const text = this.#schema.qualify(sql)
    return (await this.#answer({ text, values, types })).rows as Row[]
  }

  /** A statement that is made for this one time, such as one that names a partition; it may take long. */
  async once<Row>(sql: string, ...values: SqlValue[]): Promise<Row[]> {
    const text = this.#schema.qualify(sql)
    return (await this.#answer({ text, values, types }, longWorkMs)).rows as Row[]
  }

  /** Several statements at once, without values and without an answer. */
  async exec(sql: string): Promise<void> {
    await this.#answer({ text: this.#schema.qualify(sql) })
  }

  #query(sql: string, values: SqlValue[]): Promise<QueryResult> {
    const { name, text } = this.#schema.prepared(sql)
    return this.#answer(this.#isPrepared ? { name, text, values, types } : { text, values, types })
  }

  /** A connection that is half open gives no error by itself, ever. */
  #answer(config: QueryConfig, ms = this.#answerWithinMs): Promise<QueryResult> {
    return within(Math.max(ms, this.#answerWithinMs), this.#client.query(config))
  }
}

function within<Result>(ms: number, answer: Promise<Result>): Promise<Result> {
  if (ms === Number.POSITIVE_INFINITY) return answer
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new NoAnswer(ms)), ms)
    answer.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Puts the name of the schema into statements, once for each. */
export class Schema {
  readonly name: string
  readonly quoted: string
  readonly #prepared = new Map<string, { name: string; text: string }>()

  constructor(name: string) {
    this.name = name
    this.quoted = `"${name.replaceAll('"', '""')}"`
  }

  qualify(sql: string): string {
    return sql.replaceAll('kmsg.', `${this.quoted}.`)
  }

  /** Statements are planned once per connection; the name tells them apart in any pool. */
  prepared(sql: string): { name: string; text: string } {
    let found = this.#prepared.get(sql)
    if (found === undefined) {
      const text = this.qualify(sql)
      const digest = createHash('sha256').update(text).digest('base64url')
      found = { name: `kmsg_${digest.slice(0, 22)}`, text }
      this.#prepared.set(sql, found)
    }
    return found
  }
}

export interface Patience {
  /** One statement. */
  readonly answerWithinMs: number
  /** While it is unknown what became of a piece of work, it is repeated for so long. */
  readonly repeatForMs: number
}

/** Questions and upkeep: a large one takes a while. */
const patient: Patience = { answerWithinMs: 30_000, repeatForMs: 5_000 }
const connectWithinMs = 15_000
const undoneInARow = 10
/** After so many it is no accident, but a pooler that gives no sign: statements have no names then. */
const unpreparedInAll = 3
/** Between two tries at the most, and half of it at the least. */
const pauseMs = 400

/**
 * Whose connection it may be, a transaction of which nothing is heard keeps no locks for longer: its
 * process may be stopped, and others wait to take over what it held.
 */
const settings = 'set local jit = off; set local idle_in_transaction_session_timeout = '

interface DatabaseParts {
  readonly pool: Pool
  readonly schema: Schema
  readonly location: string
  /** At the most half of the lease. */
  readonly idleInTransactionMs: number
  readonly random: () => number
  /** How often a connection did not know our statements. */
  readonly state: { unprepared: number }
}

export class Database {
  readonly #parts: DatabaseParts
  readonly #patience: Patience
  /** Clients of the app's own pool, and whether a pooler is behind them. */
  static readonly #inspected = new WeakMap<object, boolean>()

  constructor(
    { state = { unprepared: 0 }, ...parts }: Omit<DatabaseParts, 'state'> & Partial<DatabaseParts>,
    patience = patient,
  ) {
    this.#parts = { ...parts, state }
    this.#patience = patience
  }

  get pool(): Pool {
    return this.#parts.pool
  }

  get schema(): Schema {
    return this.#parts.schema
  }

  get location(): string {
    return this.#parts.location
  }

  /** The same with other patience. */
  with(patience: Patience): Database {
    return new Database(this.#parts, patience)
  }

  /** One statement, or several of which each stands alone. It must be harmless to repeat. */
  read<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    return this.#repeating(work)
  }

  /** Several statements in one transaction. It must be harmless to repeat. */
  write<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    return this.#repeating((connection) => this.#transaction(connection, 'begin', work))
  }

  /** Everything that is read is of one moment. */
  snapshot<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    const begin = 'begin isolation level repeatable read read only'
    return this.#repeating((connection) => this.#transaction(connection, begin, work))
  }

  async #transaction<Result>(
    connection: Connection,
    begin: string,
    work: (connection: Connection) => Promise<Result>,
  ): Promise<Result> {
    await connection.exec(`${begin}; ${settings}${this.#parts.idleInTransactionMs}`)
    let result: Result
    try {
      result = await work(connection)
    } catch (error) {
      // Where nobody answers, nobody need be told either: the connection goes, and the transaction.
      const trouble = error instanceof WebhookError ? null : troubleOf(error)
      if (trouble !== 'lost') await connection.exec('rollback')
      throw error
    }
    await connection.exec('commit')
    return result
  }

  async #repeating<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    const untilMs = performance.now() + this.#patience.repeatForMs
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#onConnection(work)
      } catch (error) {
        if (error instanceof WebhookError) throw error
        const trouble = troubleOf(error)
        const isUndone = trouble === 'undone' || trouble === 'unprepared'
        const mayRepeat = isUndone ? tries < undoneInARow : performance.now() < untilMs
        if (!mayRepeat || trouble === 'data' || trouble === 'refused') {
          throw storageError(error, this.location)
        }
        await pause(this.#pauseMs(tries))
      }
    }
  }

  async #onConnection<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    const { schema, state } = this.#parts
    const client = await this.#connect()
    let isBroken = false
    try {
      const isPooled = client.isPooled ?? (await this.#isPooled(client))
      const isPrepared = !isPooled && state.unprepared < unpreparedInAll
      return await work(new Connection(client, schema, this.#patience.answerWithinMs, isPrepared))
    } catch (error) {
      const trouble = error instanceof WebhookError ? null : troubleOf(error)
      isBroken = trouble === 'lost' || trouble === 'unprepared'
      if (trouble === 'unprepared') state.unprepared += 1
      throw error
    } finally {
      client.release(isBroken)
    }
  }

  /** The app's pool may let us wait for ever; whoever comes too late is sent back. */
  async #connect(): Promise<PoolClient> {
    const connecting = this.pool.connect()
    try {
      return await within(connectWithinMs, connecting)
    } catch (error) {
      connecting.then(
        (client) => client.release(),
        () => {},
      )
      throw error
    }
  }

  async #isPooled(client: PoolClient): Promise<boolean> {
    let isPooled = Database.#inspected.get(client)
    if (isPooled === undefined) {
      // A pool hears of its clients only while they rest; unheard, an error ends the app.
      client.on?.('error', () => {})
      isPooled = (await within(this.#patience.answerWithinMs, inspect(client))).isPooled
      Database.#inspected.set(client, isPooled)
    }
    return isPooled
  }

  /** With jitter, so that those who gave way to each other do not meet again. */
  #pauseMs(tries: number): number {
    const fullMs = Math.min(10 * 2 ** tries, pauseMs)
    return fullMs / 2 + (fullMs / 2) * this.#parts.random()
  }
}
