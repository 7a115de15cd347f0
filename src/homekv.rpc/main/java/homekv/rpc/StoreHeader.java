package homekv.rpc;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;

/**
 * The header that keeps calls which follow from each other with one store. A server that was started anew may have another
 * one, or one that has lost what a client has heard of ({@link homekv.storage.MvccStore#id}), and its revisions have
 * nothing to do with those from before.
 *
 * <p>A request whose header is {@link #ANY} is answered with the store's number in the header of the response. One that
 * has a number is refused with OUT_OF_RANGE by every other store.
 */
final class StoreHeader {
    static final Metadata.Key<String> KEY = Metadata.Key.of("homekv-store", Metadata.ASCII_STRING_MARSHALLER);

    /** In a request: whichever store this is. */
    static final String ANY = "any";

    private StoreHeader() {}

    /** How a store is written. */
    static String of(long storeId) {
        return Long.toHexString(storeId);
    }

    /** Has all calls that go through it talk to the store that the first of them has met. Any thread. */
    static final class Pin implements ClientInterceptor {
        private volatile String store = ANY;

        @Override
        public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
            return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
                @Override
                public void start(Listener<R> listener, Metadata headers) {
                    headers.put(KEY, store);
                    super.start(
                            new SimpleForwardingClientCallListener<>(listener) {
                                @Override
                                public void onHeaders(Metadata received) {
                                    String met = received.get(KEY);
                                    if (met != null) {
                                        store = met;
                                    }
                                    super.onHeaders(received);
                                }
                            },
                            headers);
                }
            };
        }
    }
}
