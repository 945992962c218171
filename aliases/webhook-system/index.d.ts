export * from '@k-msg/webhook'
