/**
 * The way to the database: a pool, statements by their text, transactions, and errors in the words of
 * the contract. Knows no table. In every statement `kmsg.` stands for the schema's name.
 */
import { createHash } from 'node:crypto'
import { WebhookError } from '../../model/errors.ts'
import { isConflict, storageError } from './errors.ts'

export type SqlValue = string | number | boolean | null | Uint8Array

export interface QueryConfig {
  readonly text: string
  readonly values?: unknown[]
  readonly name?: string
  /** Ms until the client gives up, instead of what its pool says. */
  readonly query_timeout?: number
  readonly types?: { getTypeParser(oid: number, format?: string): (value: string) => unknown }
}

interface QueryResult {
  readonly rows: unknown[]
  readonly rowCount: number | null
}

/** The part of a `pg` client that we use, typed by shape: also for clients that are handed in. */
export interface Queryable {
  query(config: QueryConfig): Promise<QueryResult>
}

export interface PoolClient extends Queryable {
  release(destroy?: boolean | Error): void
}

/** The part of a `pg` pool that we use. */
export interface Pool extends Queryable {
  connect(): Promise<PoolClient>
  end(): Promise<void>
  on(event: 'error', listener: (error: Error) => void): unknown
  off?(event: 'error', listener: (error: Error) => void): unknown
  /** What its connections are made with, for one more that listens. */
  readonly options?: object
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

const conflictsInARow = 10
const longWorkMs = 600_000

/** Statements on one connection, inside a transaction or not. */
export class Connection {
  readonly #client: Queryable
  readonly #schema: Schema

  constructor(client: Queryable, schema: Schema) {
    this.#client = client
    this.#schema = schema
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

  /** A statement that is made for this one time, such as one that names a partition; it may take long. */
  async once<Row>(sql: string, ...values: SqlValue[]): Promise<Row[]> {
    const text = this.#schema.qualify(sql)
    return (await this.#client.query({ text, values, types, query_timeout: longWorkMs }))
      .rows as Row[]
  }

  /** Several statements at once, without values and without an answer. */
  async exec(sql: string): Promise<void> {
    await this.#client.query({ text: this.#schema.qualify(sql) })
  }

  #query(sql: string, values: SqlValue[]): Promise<QueryResult> {
    const { name, text } = this.#schema.prepared(sql)
    return this.#client.query({ name, text, values, types })
  }
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

export class Database {
  readonly pool: Pool
  readonly schema: Schema
  readonly location: string
  /** Each statement a transaction of its own. */
  readonly #direct: Connection

  constructor(pool: Pool, schema: Schema, location: string) {
    this.pool = pool
    this.schema = schema
    this.location = location
    this.#direct = new Connection(pool, schema)
  }

  /** One statement, or several of which each stands alone. It must be harmless to repeat. */
  read<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    return this.#repeating(() => work(this.#direct))
  }

  /** Several statements in one transaction. It must be harmless to repeat. */
  write<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    return this.#repeating(() => this.#transaction('begin', work))
  }

  /** Everything that is read is of one moment. */
  snapshot<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    return this.#repeating(() =>
      this.#transaction('begin isolation level repeatable read read only', work),
    )
  }

  async #transaction<Result>(
    begin: string,
    work: (connection: Connection) => Promise<Result>,
  ): Promise<Result> {
    const client = await this.pool.connect()
    let failure: Error | null = null
    try {
      await client.query({ text: begin })
      const result = await work(new Connection(client, this.schema))
      await client.query({ text: 'commit' })
      return result
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error))
      await client.query({ text: 'rollback' }).then(
        () => {
          failure = null
        },
        () => {},
      )
      throw error
    } finally {
      // A connection whose rollback failed too is of no use to anybody.
      client.release(failure ?? false)
    }
  }

  async #repeating<Result>(work: () => Promise<Result>): Promise<Result> {
    for (let conflicts = 1; ; conflicts += 1) {
      try {
        return await work()
      } catch (error) {
        if (isConflict(error) && conflicts < conflictsInARow) continue
        throw error instanceof WebhookError ? error : storageError(error, this.location)
      }
    }
  }
}
