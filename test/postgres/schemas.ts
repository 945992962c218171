// Each test has a schema of its own on the one server, so that files can run at the same time.
import pg from 'pg'
import { inject } from 'vitest'

let number = 0

export interface TestSchema {
  readonly url: string
  readonly name: string
  drop(): Promise<void>
}

/** @param url of another server than the one of the whole run */
export function freshSchema(url: string = inject('databaseUrl')): TestSchema {
  number += 1
  const name = `test_${process.pid}_${number}_${Math.floor(performance.now())}`
  return {
    url,
    name,
    drop: async () => {
      await onServer(url, (client) => client.query(`drop schema if exists ${name} cascade`))
    },
  }
}

export async function onServer<Result>(
  url: string,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
