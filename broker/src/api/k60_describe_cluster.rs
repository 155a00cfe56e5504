//! DescribeCluster (key 60, versions 0–2): the cluster's id, controller and brokers.
//!
//! - Addresses are those of the listener the request came in on (G39).
//! - Endpoint type 1 means brokers; 2 (controllers) is MISMATCHED_ENDPOINT_TYPE, since clients do
//!   not reach controllers here; anything else is UNSUPPORTED_ENDPOINT_TYPE (KIP-919).
//! - What the client may do with the cluster is told on request (KIP-430).
//!
//! Deviations: there are no fenced brokers to include (KIP-1073); everybody may do everything.
//! KIPs: 700, 919, 1073.

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use flumen_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::k03_metadata::CLUSTER_OPERATIONS;
use super::step::{self, Context, Envelope, Step, text};

/// Endpoints of brokers.
const BROKERS: i8 = 1;

/// Endpoints of controllers.
const CONTROLLERS: i8 = 2;

/// Answers from the image.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeClusterRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeCluster request");
    };
    let response = match request.endpoint_type {
        BROKERS => described(context, envelope, &request),
        CONTROLLERS => refused(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
             type CONTROLLER"
                .to_owned(),
        ),
        other => refused(
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        ),
    };
    step::answer(envelope, &response)
}

fn described(
    context: &Context<'_>,
    envelope: &Envelope,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let brokers = context.image.brokers.values().filter_map(|broker| {
        let endpoint = context.endpoint(broker, envelope)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(broker.id.0))
                .with_host(text(endpoint.host.as_str()))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.clone().map(text)),
        )
    });
    let mut response = DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(text(context.cluster_id))
        .with_controller_id(BrokerId(context.me.0))
        .with_brokers(brokers.collect());
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn refused(code: ErrorCode, message: String) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(code.code())
        .with_error_message(Some(text(message)))
}
