/** Where data is, as the command line names it: a file, or the URL of a PostgreSQL database. */
import { UsageError } from './failure.ts'

export const usualFile = './.k-msg/webhooks.db'

export function isDatabaseUrl(place: string): boolean {
  return /^postgres(?:ql)?:/.test(place)
}

/** To show: what is typed on the command line may hold a password. */
export function withoutPassword(place: string): string {
  if (!isDatabaseUrl(place) || !URL.canParse(place)) return place
  const { protocol, host, pathname } = new URL(place)
  return `${protocol}//${host}${pathname}`
}

/** @returns the path of the file */
export function withoutSchema(file: string, schema: string | undefined): string {
  if (schema === undefined) return file
  throw new UsageError('Expected --schema with the URL of a database in --data; a file has none.')
}

/** @returns the path of the file */
export function sourceOf(from: string): string {
  const [, file] = /^sqlite:(?:\/\/)?(.+)$/.exec(from) ?? []
  if (file !== undefined) return file
  const hint = isDatabaseUrl(from) ? '; data moves from a file to PostgreSQL, not back' : ''
  throw new UsageError(
    `Expected --from sqlite:FILE, such as sqlite:${usualFile}, got ${withoutPassword(from)}${hint}.`,
  )
}

/** @returns the URL */
export function targetOf(to: string): string {
  if (isDatabaseUrl(to) && URL.canParse(to)) return to
  // Not repeated: it may hold a password that somebody mistyped around.
  throw new UsageError(
    'Expected --to postgres://user@host/database, got something else; a password can come from PGPASSWORD.',
  )
}
