/**
 * Moves committed pages from the log (WAL) into the database, apart from the commits that wrote
 * them: passively when the queue is empty, and by force once the log has grown past a limit, which
 * also slows down whoever fills it.
 */
import type { Connection } from './connection.ts'

/** Pages of 4 KiB. Below this a checkpoint would write the same pages again and again. */
const worthwhilePages = 1_000
/** 64 MiB. */
const forcedPages = 16_384

interface LogState {
  readonly log: number
  readonly checkpointed: number
}

export function checkpointIfWorthwhile(connection: Connection): void {
  const state = connection.get<LogState>('pragma wal_checkpoint(noop)')
  if (state === undefined || state.log - state.checkpointed < worthwhilePages) return
  if (state.log >= forcedPages) connection.get('pragma wal_checkpoint(restart)')
  else connection.get('pragma wal_checkpoint(passive)')
}
