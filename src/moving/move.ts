/** Moving house: everything a file holds into a schema of PostgreSQL. Knows the order of it, no SQL. */
import { type MovedTable, movingTables } from '../storage/moving.ts'
import { importInto } from '../storage/postgres/import.ts'
import { exportFile } from '../storage/sqlite/export.ts'

export interface Move {
  readonly file: string
  readonly url: string
  /** Default `kmsg`. */
  readonly schema: string | undefined
  /** Between slices of rows: what it aborts is rolled back. */
  readonly signal: AbortSignal
}

export type { MovedTable }

export interface MoveListener {
  /** The file is locked, the target is empty and locked. */
  begins(rows: number): void
  wrote(table: string, rows: number): void
  checked(table: MovedTable): void
}

/**
 * @throws WebhookError STORAGE_LOCKED when a service uses the file, STORAGE_NOT_EMPTY, STORAGE_CORRUPT
 *   when a table reads back differently, and what opening either side throws. The file is as it was
 *   then, and the target empty.
 */
export async function moveToPostgres(move: Move, listener: MoveListener): Promise<void> {
  const source = await exportFile(move.file)
  try {
    const { schema, signal } = move
    await importInto(move.url, { schema }, source, {
      signal,
      begins: () => listener.begins(sum(movingTables.map((table) => source.count(table)))),
      wrote: ({ name }, rows) => listener.wrote(name, rows),
      checked: (table) => listener.checked(table),
    })
  } finally {
    source.close()
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}
