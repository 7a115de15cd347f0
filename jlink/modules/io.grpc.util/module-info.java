module io.grpc.util {
    requires com.google.common;
    requires transitive io.grpc;
    requires io.grpc.internal;
    requires java.logging;

    exports io.grpc.util;

    provides io.grpc.LoadBalancerProvider with
            io.grpc.util.OutlierDetectionLoadBalancerProvider,
            io.grpc.util.RandomSubsettingLoadBalancerProvider,
            io.grpc.util.SecretRoundRobinLoadBalancerProvider.Provider;
}
