// Stands for Prisma's client, whose generator is not part of the tests: raw statements run through
// `pg`, and their values go the way they go there, as JSON with a type beside what JSON has none for.
// What Prisma cannot carry, this refuses as well.
import type pg from 'pg'

export class FakeTransaction {
  readonly #client: Pick<pg.ClientBase, 'query'>

  constructor(client: Pick<pg.ClientBase, 'query'>) {
    this.#client = client
  }

  /** @returns rows affected; what a statement returns is never read */
  async $executeRawUnsafe(query: string, ...values: unknown[]): Promise<number> {
    const sent = JSON.stringify(values.map(encode))
    const received = (JSON.parse(sent) as unknown[]).map(decode)
    const { rowCount } = await this.#client.query(query, received)
    return rowCount ?? 0
  }
}

export class FakePrisma extends FakeTransaction {
  readonly #pool: pg.Pool

  constructor(pool: pg.Pool) {
    super(pool)
    this.#pool = pool
  }

  async $connect(): Promise<void> {}

  async $transaction<Result>(work: (tx: FakeTransaction) => Promise<Result>): Promise<Result> {
    const client = await this.#pool.connect()
    try {
      await client.query('begin')
      const result = await work(new FakeTransaction(client))
      await client.query('commit')
      return result
    } catch (error) {
      await client.query('rollback')
      throw error
    } finally {
      client.release()
    }
  }
}

function encode(value: unknown): unknown {
  if (value instanceof Uint8Array) {
    return { type: 'bytes', value: Buffer.from(value).toString('base64') }
  }
  if (value instanceof Date) return { type: 'date', value: value.toJSON() }
  if (typeof value === 'bigint') return { type: 'bigint', value: String(value) }
  if (value === null || ['string', 'boolean'].includes(typeof value)) return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw new TypeError(`Couldn't serialize value of type ${typeof value}.`)
}

function decode(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value
  const typed = value as { type: string; value: string }
  switch (typed.type) {
    case 'bytes':
      return Buffer.from(typed.value, 'base64')
    case 'date':
      return new Date(typed.value)
    default:
      return BigInt(typed.value)
  }
}
