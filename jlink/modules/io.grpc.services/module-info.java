module io.grpc.services {
    requires com.google.common;
    requires transitive com.google.protobuf;
    requires transitive io.grpc;
    requires io.grpc.internal;
    requires transitive io.grpc.protobuf;
    requires transitive io.grpc.stub;
    requires io.grpc.util;
    requires java.logging;

    exports io.grpc.health.v1;
    exports io.grpc.protobuf.services;
    exports io.grpc.reflection.v1;
    exports io.grpc.reflection.v1alpha;

    provides io.grpc.LoadBalancerProvider with
            io.grpc.protobuf.services.internal.HealthCheckingRoundRobinLoadBalancerProvider;
}
