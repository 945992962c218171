/** The public surface of `@k-msg/webhook`. Named exports only; a test keeps the list. */
export type { DispatchReceipt } from './accept/handover.ts'
export type { DispatcherOptions, LookupAll, RedirectRule } from './deliver/attempt-request.ts'
export { WebhookDispatcher } from './deliver/dispatcher.ts'
export type { DnsOptions, ProxyOptions, TlsOptions } from './deliver/network-options.ts'
export type { DispatchResult } from './deliver/single-dispatch.ts'
export type { EraseQuery } from './engine/erase-query.ts'
export type { EndpointExplanation, EventExplanation } from './engine/explain.ts'
export type { RetentionOptions, SystemEventsTarget, WebhookConfig } from './engine/options.ts'
export type {
  BlockedKeyQuery,
  BlockedOrderKey,
  DeliveryListQuery,
  DeliveryPage,
  EventReport,
} from './engine/queries.ts'
export type { CancelPendingQuery } from './engine/repair.ts'
export type {
  BackfillQuery,
  Repair,
  RepairOptions,
  RepairPreview,
  ReplayQuery,
} from './engine/repair-query.ts'
export type { WebhookAttempt } from './model/attempt.ts'
export type { BodyFilter, BodyTest, FilterPath, FilterScalar } from './model/body-filter.ts'
export type { Clock, Random } from './model/clock.ts'
export type {
  DeliveryState,
  FailedDelivery,
  NotMatchedReason,
  WaitingFor,
  WebhookDelivery,
} from './model/delivery.ts'
export type {
  EndpointBatch,
  EndpointFilters,
  EndpointOrdering,
  EndpointRetryConfig,
  EndpointStatus,
  EndpointTls,
  WebhookEndpoint,
  WebhookEndpointChanges,
  WebhookEndpointInput,
} from './model/endpoint.ts'
export { WebhookError, type WebhookErrorCode } from './model/errors.ts'
export {
  type KnownWebhookEventType,
  type WebhookEvent,
  type WebhookEventBody,
  type WebhookEventMetadata,
  WebhookEventType,
} from './model/event.ts'
export type { BreakerState, RateLimit } from './model/flow.ts'
export type { OutcomeKind } from './model/outcome.ts'
export type { RepairKind, RepairState } from './model/repair.ts'
export type { SecretType, SignatureScheme, SigningKey } from './model/signature.ts'
export type {
  AttemptFact,
  DeliveryFact,
  EndpointFact,
  FactListener,
  FactName,
  RepairFact,
  WebhookFacts,
} from './observe/facts.ts'
export type { Logger } from './observe/log.ts'
export type { DeliveryFigures, EndpointStats, HourlyFigures } from './observe/statistics.ts'
export { type RetryConfig, RetryManager } from './policy/retry-manager.ts'
export type { RotateSecretOptions } from './registry/rotation-input.ts'
export {
  type RegisteredEndpoint,
  type RegistryOptions,
  type TenantScope,
  WebhookRegistry,
} from './registry/webhook-registry.ts'
export { createEncryptionKey } from './security/key-ring.ts'
export { SecurityManager, type SecurityOptions } from './security/security-manager.ts'
export type {
  DispatchOptions,
  DispatchTimesOptions,
  EndpointTestResult,
  HistoryQuery,
  RemoveOptions,
  ServiceBacklog,
  ServiceHealth,
  TimeRange,
  WebhookServiceParts,
  WebhookStats,
} from './service/shapes.ts'
export { WebhookService } from './service/webhook-service.ts'
export type { EndpointChange } from './storage/endpoints.ts'
export type { Backlog } from './storage/questions.ts'
export { auditFile } from './storage/sqlite/beside.ts'
export { memory, type SqliteOptions, sqlite } from './storage/sqlite/sqlite.ts'
export type { Storage } from './storage/storage.ts'
export type { AuditReport } from './storage/upkeep.ts'
