// The conformance suite on PostgreSQL.
import { describeStore } from '../storage/conformance.ts'
import { openOn } from './conformance-store.ts'
import { freshSchema } from './schemas.ts'

describeStore({ name: 'postgres', open: (host) => openOn(freshSchema(), host), skip: [] })
