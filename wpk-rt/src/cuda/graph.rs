//! Graphs of launches, with one node per step and the plan's edges.

use super::driver::{Context, Stream, cu, version};
use super::function::Function;
use super::library::Prepared;
use crate::Error;
use cudarc::driver::sys;
use std::ptr::null_mut;
use std::sync::Arc;
use wpk_plan::{Edge, EdgeKind};

/// An instantiated graph of launches.
pub struct Graph {
    exec: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: used by one session at a time.
unsafe impl Send for Graph {}

/// What a step starts, with its pointers; of a call, the workspace too.
pub enum Work<'a> {
    Kernel(&'a Function, Vec<u64>),
    Call(&'a Prepared, Vec<u64>, u64),
}

/// A step: what it starts, and the steps it waits for.
pub type Launch<'a> = (Work<'a>, Vec<Edge>);

/// The first driver whose graphs know edges that let a kernel start early: CUDA 12.3.
const EDGES: i32 = 12030;

/// An edge by which a kernel starts as soon as another allows it.
static PROGRAMMATIC: sys::CUgraphEdgeData = sys::CUgraphEdgeData {
    from_port: sys::CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC as u8,
    to_port: 0,
    type_: sys::CUgraphDependencyType::CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC as u8,
    reserved: [0; 5],
};

impl Graph {
    /// Starts it on a stream.
    pub fn launch(&self, stream: sys::CUstream) -> Result<(), Error> {
        cu!(cuGraphLaunch(self.exec, stream))
    }

    pub fn new(context: &Arc<Context>, launches: &[Launch<'_>]) -> Result<Self, Error> {
        context.enter()?;
        let mut graph = null_mut();
        cu!(cuGraphCreate(&raw mut graph, 0))?;
        let knows_edges = version()? >= EDGES;
        let mut nodes: Vec<sys::CUgraphNode> = vec![];
        for (work, after) in launches {
            let (early, full): (Vec<&Edge>, Vec<&Edge>) = after.iter().partition(|e| knows_edges && e.kind == EdgeKind::Programmatic);
            let before: Vec<sys::CUgraphNode> = full.iter().map(|e| nodes[e.step as usize]).collect();
            let made = match work {
                Work::Kernel(f, pointers) => kernel_node(graph, f, pointers, &before)?,
                Work::Call(..) => captured(context, graph, work, &before)?,
            };
            for edge in early {
                cu!(cuGraphAddDependencies_v2(graph, &raw const nodes[edge.step as usize], &raw const made, &raw const PROGRAMMATIC, 1))?;
            }
            nodes.push(made);
        }
        let mut exec = null_mut();
        let instantiated = cu!(cuGraphInstantiateWithFlags(&raw mut exec, graph, 0));
        cu!(cuGraphDestroy(graph))?;
        instantiated.map(|()| Self { exec, context: context.clone() })
    }
}

fn kernel_node(graph: sys::CUgraph, f: &Function, pointers: &[u64], before: &[sys::CUgraphNode]) -> Result<sys::CUgraphNode, Error> {
    let mut parameters = f.parameters(pointers)?;
    let mut params = parameters.list();
    // SAFETY: zero is valid for every field: null pointers and no extras.
    let mut node: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    (node.func, node.sharedMemBytes, node.kernelParams) = (f.raw, f.dynamic, params.as_mut_ptr());
    (node.gridDimX, node.gridDimY, node.gridDimZ) = (f.blocks, 1, 1);
    (node.blockDimX, node.blockDimY, node.blockDimZ) = (f.threads, 1, 1);
    let mut made = null_mut();
    cu!(cuGraphAddKernelNode_v2(&raw mut made, graph, before.as_ptr(), before.len(), &raw const node))?;
    Ok(made)
}

/// What a library starts, as a graph within the graph. It runs once before, because a first call may do what graphs cannot hold.
fn captured(context: &Arc<Context>, graph: sys::CUgraph, work: &Work<'_>, before: &[sys::CUgraphNode]) -> Result<sys::CUgraphNode, Error> {
    let stream = Stream::new(context)?;
    work.start(&stream)?;
    stream.wait()?;
    cu!(cuStreamBeginCapture_v2(stream.raw(), sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))?;
    let started = work.start(&stream);
    let (mut inner, mut made) = (null_mut(), null_mut());
    cu!(cuStreamEndCapture(stream.raw(), &raw mut inner))?;
    let added = started.and_then(|()| cu!(cuGraphAddChildGraphNode(&raw mut made, graph, before.as_ptr(), before.len(), inner)));
    // The node holds a copy.
    cu!(cuGraphDestroy(inner))?;
    added.map(|()| made)
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = self.context.enter().and_then(|()| cu!(cuGraphExecDestroy(self.exec)));
    }
}
