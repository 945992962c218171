/**
 * Turns what SQLite reports into the errors of the contract, and carries errors across threads.
 * A row that SQLite refuses (a constraint, a datatype) is no fault of the store: it stays a plain
 * Error, so that the group it came in can be halved down to it.
 */
import { statfsSync } from 'node:fs'
import path from 'node:path'
import { WebhookError, type WebhookErrorCode } from '../../model/errors.ts'

/** SQLite's primary result codes, the low byte of every extended one. */
const busy = 5
const locked = 6
const noMemory = 7
const readOnly = 8
const ioError = 10
const corrupt = 11
const full = 13
const cannotOpen = 14
const notADatabase = 26

/** Less than this and an I/O error is taken for a full disk: `fsync` does not say which it was. */
const almostFullBytes = 1024 * 1024

/**
 * The npm driver tells no code of what a query meets while its rows are read: only what SQLite says
 * to it, which begins with these words (sqlite3_errstr).
 */
const codeOfWords: readonly (readonly [string, number])[] = [
  ['database is locked', busy],
  ['database table is locked', locked],
  ['out of memory', noMemory],
  ['attempt to write a readonly database', readOnly],
  ['disk I/O error', ioError],
  ['database disk image is malformed', corrupt],
  ['malformed database schema', corrupt],
  ['database or disk is full', full],
  ['unable to open database file', cannotOpen],
  ['file is not a database', notADatabase],
]

export function sqliteCode(error: unknown): number | null {
  const { errcode, code, message } = (error ?? {}) as Record<string, unknown>
  if (typeof errcode === 'number') return errcode & 0xff
  if (code !== 'ERR_SQLITE_ERROR' || typeof message !== 'string') return null
  return codeOfWords.find(([words]) => message.startsWith(words))?.[1] ?? null
}

/** @param location path of the database, for the sentence */
export function storageError(error: unknown, location: string): Error {
  if (error instanceof WebhookError) return error
  const said = error instanceof Error ? error.message : String(error)
  const make = (code: WebhookErrorCode, sentence: string) =>
    new WebhookError(code, `${sentence} SQLite said: ${said}.`, { cause: error })
  switch (sqliteCode(error)) {
    case full:
      return make('STORAGE_FULL', `Expected room to write to ${location}; free some disk space.`)
    case readOnly:
      return make('STORAGE_READ_ONLY', `Expected ${location} to be writable; check its owner.`)
    case corrupt:
    case notADatabase:
      return make(
        'STORAGE_CORRUPT',
        `Expected ${location} to be a SQLite database, and it is damaged or something else; restore a backup or name another file in \`storage\`.`,
      )
    case noMemory:
      return make('STORAGE_UNAVAILABLE', `Expected memory to work on ${location} with.`)
    case busy:
    case locked:
      return make('STORAGE_UNAVAILABLE', `Expected nobody else to hold a lock on ${location}.`)
    case cannotOpen:
      return make(
        'STORAGE_READ_ONLY',
        `Expected to open or create ${location}; check that its folder exists and is writable.`,
      )
    case ioError:
      return isDiskFull(location)
        ? make('STORAGE_FULL', `Expected room to write to ${location}; free some disk space.`)
        : make(
            'STORAGE_IO',
            `Expected the disk to read and write ${location}; it failed, and what a later sync reports cannot be trusted, so this process must be restarted.`,
          )
    default:
      return new Error(said, { cause: error })
  }
}

/**
 * What the file system says to a path, before SQLite is asked.
 *
 * @param wanted what was tried, for the sentence
 * @param advice what else may be done
 * @returns other errors as they are
 */
export function fileSystemError(error: unknown, wanted: string, advice: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException
  if (typeof code !== 'string' || syscall === undefined) return error
  const make = (own: WebhookErrorCode, hint: string) =>
    new WebhookError(own, `Expected ${wanted}: ${message}; ${hint}.`, { cause: error })
  switch (code) {
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return make('STORAGE_READ_ONLY', `check who owns the folder, or ${advice}`)
    case 'ENOSPC':
    case 'EDQUOT':
      return make('STORAGE_FULL', 'free some disk space')
    case 'EIO':
      return make('STORAGE_IO', 'the disk failed')
    case 'EEXIST':
      return make(
        'OPTION_INVALID',
        `it is there already, and a backup never overwrites a file: ${advice}`,
      )
    default:
      // No such folder, a path through a file, a loop of links, a name too long.
      return make('OPTION_INVALID', 'name a file in a folder that exists')
  }
}

function isDiskFull(location: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(path.dirname(location))
    return bavail * bsize < almostFullBytes
  } catch {
    return false
  }
}

/** An error as it crosses the thread: structured clone keeps neither class nor `code`. */
export interface ErrorOnWire {
  readonly code: WebhookErrorCode | null
  readonly message: string
  readonly stack: string | undefined
}

export function errorToWire(error: Error): ErrorOnWire {
  const code = error instanceof WebhookError ? error.code : null
  const cause = error.cause instanceof Error ? error.cause : error
  return { code, message: error.message, stack: cause.stack }
}

export function errorFromWire({ code, message, stack }: ErrorOnWire): Error {
  const cause = new Error(message)
  if (stack !== undefined) cause.stack = stack
  return code === null ? new Error(message, { cause }) : new WebhookError(code, message, { cause })
}
