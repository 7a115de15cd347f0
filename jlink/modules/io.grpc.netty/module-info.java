module io.grpc.netty {
    requires com.google.common;
    requires transitive io.grpc;
    requires io.grpc.internal;
    requires io.grpc.util;
    requires transitive io.netty.buffer;
    requires io.netty.codec;
    requires io.netty.codec.http;
    requires io.netty.codec.http2;
    requires transitive io.netty.common;
    requires transitive io.netty.handler;
    requires transitive io.netty.transport;
    requires io.netty.transport.unix.common;
    requires io.perfmark;
    requires java.logging;

    exports io.grpc.netty;

    provides io.grpc.ManagedChannelProvider with
            io.grpc.netty.NettyChannelProvider,
            io.grpc.netty.UdsNettyChannelProvider;
    provides io.grpc.NameResolverProvider with
            io.grpc.netty.UdsNameResolverProvider;
    provides io.grpc.ServerProvider with
            io.grpc.netty.NettyServerProvider;
}
