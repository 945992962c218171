/** Why a request was not believed: the step that failed, and what to do about it. */
import { WebhookError } from '../model/errors.ts'

export type VerificationErrorCode =
  | 'BODY_ALREADY_PARSED'
  | 'BODY_MISSING'
  | 'BODY_INVALID'
  | 'BODY_TOO_LARGE'
  | 'EVENT_INVALID'
  | 'BATCH_UNEXPECTED'
  | 'HEADER_MISSING'
  | 'HEADER_INVALID'
  | 'TIMESTAMP_INVALID'
  | 'TIMESTAMP_TOO_OLD'
  | 'TIMESTAMP_TOO_NEW'
  | 'SIGNATURE_INVALID'
  | 'SECRET_MISSING'
  | 'SECRET_INVALID'
  | 'ALGORITHM_UNSUPPORTED'
  | 'OPTION_INVALID'

export class WebhookVerificationError extends WebhookError {
  override readonly name = 'WebhookVerificationError'
  declare readonly code: VerificationErrorCode
  /**
   * With `TIMESTAMP_TOO_OLD` and `TIMESTAMP_TOO_NEW`: our clock minus the timestamp, in seconds;
   * negative when the request comes from the future.
   */
  readonly skewSeconds: number | undefined

  constructor(
    code: VerificationErrorCode,
    message: string,
    { skewSeconds, ...options }: { cause?: unknown; skewSeconds?: number } = {},
  ) {
    super(code, message, options)
    this.skewSeconds = skewSeconds
  }
}

/** @param sentence what was expected, what came instead, and what to do */
export function expected(
  code: VerificationErrorCode,
  sentence: string,
  options?: { cause?: unknown; skewSeconds?: number },
): WebhookVerificationError {
  return new WebhookVerificationError(code, `Expected ${sentence}.`, options)
}
