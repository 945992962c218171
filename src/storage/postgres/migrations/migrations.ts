/** All schema changes, in order. A published one is never edited: its number is in databases. */
import { firstSchema } from './0001-first.ts'

/** Migration n brings a schema from number n - 1 to n. */
export const migrations: readonly string[] = [firstSchema]
