/** What happened on the platform, as the caller hands it in and as receivers read it. */

/** The event types of K-Message. Other names are allowed; these are the ones an editor completes. */
export const WebhookEventType = {
  MESSAGE_SENT: 'message.sent',
  MESSAGE_DELIVERED: 'message.delivered',
  MESSAGE_FAILED: 'message.failed',
  MESSAGE_CLICKED: 'message.clicked',
  MESSAGE_READ: 'message.read',
  TEMPLATE_CREATED: 'template.created',
  TEMPLATE_APPROVED: 'template.approved',
  TEMPLATE_REJECTED: 'template.rejected',
  TEMPLATE_UPDATED: 'template.updated',
  TEMPLATE_DELETED: 'template.deleted',
  CHANNEL_CREATED: 'channel.created',
  CHANNEL_VERIFIED: 'channel.verified',
  SENDER_NUMBER_ADDED: 'sender_number.added',
  SENDER_NUMBER_VERIFIED: 'sender_number.verified',
  SYSTEM_QUOTA_WARNING: 'system.quota_warning',
  SYSTEM_QUOTA_EXCEEDED: 'system.quota_exceeded',
  SYSTEM_PROVIDER_ERROR: 'system.provider_error',
  SYSTEM_MAINTENANCE: 'system.maintenance',
  ANALYTICS_ANOMALY_DETECTED: 'analytics.anomaly_detected',
  ANALYTICS_THRESHOLD_EXCEEDED: 'analytics.threshold_exceeded',
} as const

/** One of the 20 types of K-Message. */
export type KnownWebhookEventType = (typeof WebhookEventType)[keyof typeof WebhookEventType]

/** Any event type. `string & {}` keeps the known names in an editor's completion. */
export type WebhookEventType = KnownWebhookEventType | (string & {})

/** Facts about an event that endpoints can filter on. Any other key is allowed. */
export interface WebhookEventMetadata {
  providerId?: string | undefined
  channelId?: string | undefined
  templateId?: string | undefined
  messageId?: string | undefined
  correlationId?: string | undefined
  [key: string]: unknown
}

export interface WebhookEvent<Data = unknown> {
  /** 1–256 characters of `[A-Za-z0-9_-]`, unique per tenant; dispatching it again is harmless. */
  id: string
  /** Lower-case name, its parts joined by dots, such as `message.sent`. */
  type: WebhookEventType
  /** When it happened: a Date, or an RFC 3339 string with its offset, in the years 0000 to 9999. */
  timestamp: Date | string
  /** What JSON can carry, as `JSON.stringify` writes it: NaN becomes null, a Map an empty object. */
  data: Data
  metadata?: WebhookEventMetadata | undefined
  /** Version of the shape of `data`; `'1.0'` when omitted. */
  version?: string | undefined
  /** Whose event it is. Only endpoints of the same tenant get it. */
  tenantId?: string | undefined
}

/** The body of a request: what a receiver parses. */
export interface WebhookEventBody<Data = unknown> {
  id: string
  type: WebhookEventType
  timestamp: string
  data: Data
  metadata: WebhookEventMetadata
  version: string
}
