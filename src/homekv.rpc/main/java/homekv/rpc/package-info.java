/**
 * HomeKV over gRPC.
 *
 * <p>{@link HomeKvServer} serves a {@link homekv.storage.MvccStore} and its {@link homekv.storage.CommandLog};
 * {@link HomeKvClient} is a blocking client, and {@link LoadGenerator} measures a server. The protocol is
 * {@code homekv_service.proto}.
 */
package homekv.rpc;
