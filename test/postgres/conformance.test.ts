// The conformance suite on PostgreSQL.
import { postgres } from '../../src/storage/postgres/postgres.ts'
import type { Store } from '../../src/storage/storage.ts'
import { describeStore } from '../storage/conformance.ts'
import { freshSchema } from './schemas.ts'

describeStore({
  name: 'postgres',
  async open(host) {
    const schema = freshSchema()
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
  },
  skip: [],
})
