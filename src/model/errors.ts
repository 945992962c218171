/**
 * The one error class of the package. Every error has a literal `code` to branch on and a sentence
 * for people: what was expected, what came, what to do.
 */

/** Every code a WebhookError can carry. A code is part of the public API: it is never renamed. */
export type WebhookErrorCode =
  | 'OPTION_UNKNOWN'
  | 'OPTION_INVALID'
  | 'OPTION_OUT_OF_RANGE'
  | 'EVENT_INVALID'
  | 'EVENT_ID_INVALID'
  | 'EVENT_ID_CONFLICT'
  | 'EVENT_TYPE_INVALID'
  | 'EVENT_TYPE_DISABLED'
  | 'EVENT_TIMESTAMP_INVALID'
  | 'EVENT_DATA_INVALID'
  | 'EVENT_TOO_LARGE'
  | 'EVENT_NOT_FOUND'
  | 'TENANT_ID_INVALID'
  | 'ENDPOINT_INVALID'
  | 'ENDPOINT_ID_INVALID'
  | 'ENDPOINT_URL_INVALID'
  | 'ENDPOINT_NOT_FOUND'
  | 'ENDPOINT_DISABLED'
  | 'ADDRESS_BLOCKED'
  | 'GUARD_BYPASSED'
  | 'SECRET_INVALID'
  | 'SECRET_MISSING'
  | 'SECRET_LIMIT'
  | 'ENCRYPTION_KEY_INVALID'
  | 'ENCRYPTION_KEY_MISSING'
  | 'ENCRYPTION_KEY_WRONG'
  | 'ALGORITHM_UNSUPPORTED'
  | 'BODY_ALREADY_PARSED'
  | 'BODY_MISSING'
  | 'BODY_INVALID'
  | 'BODY_TOO_LARGE'
  | 'BATCH_UNEXPECTED'
  | 'HEADER_MISSING'
  | 'HEADER_INVALID'
  | 'TIMESTAMP_INVALID'
  | 'TIMESTAMP_TOO_OLD'
  | 'TIMESTAMP_TOO_NEW'
  | 'SIGNATURE_INVALID'
  | 'DELIVERY_NOT_FOUND'
  | 'DELIVERY_NOT_RETRIABLE'
  | 'DELIVERY_NOT_CANCELLABLE'
  | 'REPAIR_NOT_FOUND'
  | 'CURSOR_INVALID'
  | 'SCHEDULE_EMPTY'
  | 'BACKLOG_FULL'
  | 'SERVICE_CLOSED'
  | 'DRAIN_TIMEOUT'
  | 'STORAGE_LOCKED'
  | 'STORAGE_FULL'
  | 'STORAGE_READ_ONLY'
  | 'STORAGE_CORRUPT'
  | 'STORAGE_FOREIGN'
  | 'STORAGE_NOT_EMPTY'
  | 'STORAGE_SCHEMA_NEWER'
  | 'STORAGE_UNAVAILABLE'
  | 'STORAGE_IO'
  | 'TRANSACTION_UNSUPPORTED'
  | 'BACKUP_UNSUPPORTED'
  | 'BUNDLE_WORKER_MISSING'

export class WebhookError extends Error {
  override readonly name: string = 'WebhookError'
  readonly code: WebhookErrorCode
  /** With `BACKLOG_FULL`: when there may be room again, in ms from now. */
  declare readonly retryAfterMs?: number

  constructor(code: WebhookErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** True when a store may accept the same call later: the disk is full, the connection is gone. */
export function isTransientStorageError(error: unknown): error is WebhookError {
  return (
    error instanceof WebhookError &&
    (error.code === 'STORAGE_FULL' || error.code === 'STORAGE_UNAVAILABLE')
  )
}

/** Shows a wrong value in an error sentence: short, with its type, never a whole payload. */
export function describeValue(value: unknown): string {
  if (value === null) return 'null'
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') {
    return `${JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)} (string)`
  }
  if (value instanceof Date) return `an invalid or unexpected Date`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object') return 'an object'
  if (typeof value === 'function') return 'a function'
  return `${String(value)} (${typeof value})`
}
