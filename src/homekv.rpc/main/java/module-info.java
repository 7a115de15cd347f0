/** HomeKV over gRPC: the service, a server of it and a client. The only module that knows gRPC and protobuf. */
module homekv.rpc {
    requires transitive homekv.storage;
    requires com.google.common;
    requires com.google.protobuf;
    requires io.grpc;
    requires io.grpc.netty;
    requires io.grpc.protobuf;
    requires io.grpc.services;
    requires io.grpc.stub;
    requires io.netty.common;
    requires io.netty.transport;

    exports homekv.rpc;

    // The generated messages: protobuf calls their accessors by reflection.
    exports homekv.rpc.proto to
            com.google.protobuf;
}
