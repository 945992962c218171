/**
 * `kmsg-webhook migrate`: everything from a data file into PostgreSQL. Progress goes to standard
 * error; the table of what was read and written, with checksums, to standard output.
 */
import { type MovedTable, moveToPostgres } from '../moving/move.ts'
import { exitCodes } from './failure.ts'
import { count } from './figures.ts'
import { listenForInterrupt } from './interrupt.ts'
import { MoveProgress } from './move-progress.ts'
import { sourceOf, targetOf, withoutPassword } from './places.ts'
import { type Column, headerLine, rowLine } from './table.ts'
import { displayWidth, printable } from './text-width.ts'
import type { Words } from './words.ts'

export interface MigrateOptions {
  readonly from: string
  readonly to: string
  readonly schema: string | undefined
  readonly words: Words
}

export async function migrate({ from, to, schema, words }: MigrateOptions): Promise<number> {
  const file = sourceOf(from)
  const url = targetOf(to)
  using interrupt = listenForInterrupt()
  const progress = new MoveProgress(process.stderr, words.migrate)
  const columns = columnsOf(words.migrate)
  const print = (line: string) => process.stdout.write(`${line}\n`)
  const moved: MovedTable[] = []
  try {
    await moveToPostgres(
      { file, url, schema, signal: interrupt.signal },
      {
        begins(rows) {
          for (const line of placeLines(file, url, schema, words.migrate)) print(line)
          progress.begins(rows)
        },
        wrote: (table, rows) => progress.wrote(table, rows),
        checked(table) {
          progress.end()
          if (moved.length === 0) print(headerLine(columns))
          moved.push(table)
          print(rowLine(columns, table))
        },
      },
    )
  } catch (error) {
    progress.end()
    if (!interrupt.signal.aborted) throw error
    process.stderr.write(`${words.migrate.stopped}\n`)
    return exitCodes.interrupted
  }
  const rows = moved.reduce((sum, { written }) => sum + written.rows, 0)
  print(words.migrate.moved(rows, moved.length))
  print(words.migrate.next)
  return exitCodes.well
}

function placeLines(
  file: string,
  url: string,
  schema = 'kmsg',
  words: Words['migrate'],
): readonly string[] {
  const wide = Math.max(displayWidth(words.from), displayWidth(words.to))
  const label = (text: string) => text + ' '.repeat(wide - displayWidth(text))
  return [
    `${label(words.from)}  ${printable(file)}`,
    `${label(words.to)}  ${printable(withoutPassword(url))}, ${words.schema(schema)}`,
  ]
}

/** Enough of a checksum for eyes; all of it has been compared. */
const shownDigits = 16

function columnsOf(words: Words['migrate']): readonly Column<MovedTable>[] {
  const figure = { width: 11, align: 'right' } as const
  return [
    { title: words.table, width: 15, text: ({ name }) => name },
    { title: words.read, ...figure, text: ({ read }) => count(read.rows) },
    { title: words.written, ...figure, text: ({ written }) => count(written.rows) },
    {
      title: words.source,
      width: shownDigits,
      text: ({ read }) => read.checksum.slice(0, shownDigits),
    },
    {
      title: words.target,
      width: shownDigits,
      text: ({ written }) => written.checksum.slice(0, shownDigits),
    },
    { title: '', width: 9, text: ({ same }) => (same ? words.same : words.different) },
  ]
}
