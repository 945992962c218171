/** `@k-msg/webhook/testing`: a clock to hand in and a receiver to send to. */
export {
  createInbox,
  type Inbox,
  type InboxAnswer,
  type InboxOptions,
  type ReceivedRequest,
} from './inbox.ts'
export { type ManualClock, manualClock } from './manual-clock.ts'
export type { SignatureVerdict } from './verdict.ts'
