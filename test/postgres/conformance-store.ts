import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
import type { OpenedStore } from '../storage/conformance.ts'
import type { TestHost } from '../storage/fixtures.ts'
import type { TestSchema } from './schemas.ts'

export async function openOn(schema: TestSchema, host: TestHost): Promise<OpenedStore> {
  const storage = postgres(schema.url, { schema: schema.name })
  let store: Store = await storage.open(host)
  return {
    store,
    async reopen() {
      await store.close()
      store = await storage.open(host)
      return store
    },
    async dispose() {
      await store.close()
      await schema.drop()
    },
  }
}
