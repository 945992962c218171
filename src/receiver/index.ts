/**
 * `@k-msg/webhook/receiver`: verify what a webhook sender sent. No dependency and no module of Node:
 * runs on Node, Bun, Deno and Workers.
 */
export type {
  KnownWebhookEventType,
  WebhookEventBody,
  WebhookEventMetadata,
} from '../model/event.ts'
export type { ReceiverAnswer } from './answers.ts'
export type { RawRequest } from './raw.ts'
export {
  createReceiver,
  type ReceiverOptions,
  type RequestReceiver,
  type WebhookReceiver,
} from './receiver.ts'
export type { Scheme, VerifyOptions } from './rules.ts'
export { type SeenClaim, type SeenEvents, type SeenOptions, seenInMemory } from './seen-events.ts'
export { type VerificationErrorCode, WebhookVerificationError } from './verification-error.ts'
export { verify } from './verify.ts'
