//! A graph's edges and kernel nodes: what the program may ask of them and change.

use std::sync::Arc;

use super::arguments::Arguments;
use super::attributes::{AttributeValue, Attributes};
use super::boundary::{Host, In, Out};
use super::error::{Code, Outcome, fail};
use super::function::Function;
use super::graph::{Edge, Graph, GraphExec, GraphNode};
use super::handle::Handle;
use super::launch::KernelLaunch;
use super::shape::Shape;
use super::work::Work;
use super::{Machine, driver_functions};

/// CUgraphEdgeData
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct EdgeData {
    from_port: u8,
    to_port: u8,
    kind: u8,
    _reserved: [u8; 5],
}

/// CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC and CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC.
const PROGRAMMATIC: EdgeData = EdgeData { from_port: 1, to_port: 0, kind: 1, _reserved: [0; 5] };

impl From<&Edge> for EdgeData {
    fn from(edge: &Edge) -> EdgeData {
        if edge.programmatic { PROGRAMMATIC } else { EdgeData::default() }
    }
}

/// CUDA_KERNEL_NODE_PARAMS, the first version.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NodeParams {
    function: Handle<Function>,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    each: usize,
    extra: usize,
}

/// The second version.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NodeParams2 {
    first: NodeParams,
    /// A CUkernel and a context, where there is no function.
    kernel: usize,
    context: usize,
}

/// Lists of nodes and of the edges that lead there.
type Neighbours = (Vec<Handle<GraphNode>>, Vec<EdgeData>);

/// Nodes, and where the program wants them.
type Answer<'a> = (&'a [Handle<GraphNode>], &'a Out<Handle<GraphNode>>);

/// Ends with 402 where an edge's kind would be lost.
fn list_edges(nodes: &[Answer<'_>], edges: &[EdgeData], data: Option<&Out<EdgeData>>, count: &Out<usize>) -> Outcome {
    let wanted = nodes.iter().any(|(_, answer)| !answer.is_null());
    if !wanted {
        return count.write(edges.len());
    }
    let room = count.read()?.min(edges.len());
    match data.filter(|data| !data.is_null()) {
        Some(data) => data.write_all(&edges[..room])?,
        None if edges.iter().any(|edge| edge.kind != 0) => {
            return fail(Code::LOSSY_QUERY, "some edges are programmatic; ask with room for their data");
        }
        None => {}
    }
    for (handles, answer) in nodes.iter().filter(|(_, answer)| !answer.is_null()) {
        answer.write_all(&handles[..room])?;
    }
    count.write(room)
}

impl Machine {
    /// From, to and kind of every edge.
    fn edges(&self, graph: Handle<Graph>) -> Outcome<(Vec<Handle<GraphNode>>, Neighbours)> {
        let Graph { nodes, handles, .. } = self.graphs.get(graph)?;
        let all = nodes.iter().zip(handles).flat_map(|(node, &to)| node.after.iter().map(move |edge| (edge, to)));
        let (mut from, mut to, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for (edge, target) in all {
            from.push(handles[edge.from]);
            to.push(target);
            data.push(EdgeData::from(edge));
        }
        Ok((from, (to, data)))
    }

    fn dependencies(&self, node: Handle<GraphNode>) -> Outcome<Neighbours> {
        let GraphNode { graph, place } = self.graph_nodes.get(node)?;
        let graph = self.graphs.get(*graph)?;
        let after = &graph.nodes[*place].after;
        Ok((after.iter().map(|edge| graph.handles[edge.from]).collect(), after.iter().map(EdgeData::from).collect()))
    }

    fn dependent_nodes(&self, node: Handle<GraphNode>) -> Outcome<Neighbours> {
        let GraphNode { graph, .. } = self.graph_nodes.get(node)?;
        let (from, (to, data)) = self.edges(*graph)?;
        let own = |i: &usize| from[*i] == node;
        Ok((0..to.len()).filter(own).map(|i| (to[i], data[i])).unzip())
    }

    fn kernel_node(&self, node: Handle<GraphNode>) -> Outcome<&Arc<KernelLaunch>> {
        let GraphNode { graph, place } = self.graph_nodes.get(node)?;
        match &self.graphs.get(*graph)?.nodes[*place].work {
            Work::Launch(launch) => Ok(launch),
            _ => fail(Code::INVALID_VALUE, format!("node {node:?} is no kernel node")),
        }
    }

    /// The pointers to the parameters lead into the node and hold until it is changed.
    fn node_params(&self, node: Handle<GraphNode>) -> Outcome<NodeParams> {
        let launch = self.kernel_node(node)?;
        let Shape { grid, block, dynamic_shared } = launch.shape;
        let each = launch.pointers().as_ptr().expose_provenance();
        Ok(NodeParams { function: launch.function, grid, block, dynamic_shared, each, extra: 0 })
    }

    /// The launch of a kernel node with other parameters, and its attributes as they were.
    fn changed(&self, node: Handle<GraphNode>, params: &NodeParams) -> Outcome<Work> {
        let attributes = self.kernel_node(node)?.attributes;
        let NodeParams { function, grid, block, dynamic_shared, each, extra } = *params;
        let of = |address: usize| In::from(Host::at_address(address));
        let arguments = Arguments { each: of(each), extra: of(extra) };
        let shape = Shape { grid, block, dynamic_shared };
        Ok(Work::Launch(Arc::new(self.prepare(function, shape, attributes, &arguments)?)))
    }

    fn set_node(&mut self, node: Handle<GraphNode>, work: Work) -> Outcome {
        let GraphNode { graph, place } = *self.graph_nodes.get(node)?;
        self.graphs.get_mut(graph)?.nodes[place].work = work;
        Ok(())
    }

    fn set_exec_node(&mut self, exec: Handle<GraphExec>, node: Handle<GraphNode>, params: &NodeParams) -> Outcome {
        let work = self.changed(node, params)?;
        let place = self.graph_nodes.get(node)?.place;
        match self.graph_execs.get_mut(exec)?.nodes.get_mut(place) {
            Some(node) if node.work.node_type() == work.node_type() => node.work = work,
            _ => return fail(Code::INVALID_VALUE, "the executable graph was made of another graph"),
        }
        self.ready_again(exec)
    }

    fn set_node_attribute(&mut self, node: Handle<GraphNode>, id: u32, value: &AttributeValue) -> Outcome {
        let launch = self.kernel_node(node)?.clone();
        let mut attributes: Attributes = launch.attributes;
        attributes.set_of_node(id, value)?;
        let changed = self.with_attributes(&launch, attributes)?;
        self.set_node(node, Work::Launch(Arc::new(changed)))
    }
}

fn first_of(params: NodeParams2) -> Outcome<NodeParams> {
    if params.first.function == Handle::NULL {
        let NodeParams2 { kernel, context, .. } = params;
        let what =
            format!("kernel {kernel:#x} in context {context:#x}: kernels of libraries are not emulated in nodes");
        return fail(Code::NOT_SUPPORTED, what);
    }
    Ok(params.first)
}

driver_functions! {
    table table;

    fn cuGraphGetEdges(
        machine,
        graph: Handle<Graph>,
        from: Out<Handle<GraphNode>>,
        to: Out<Handle<GraphNode>>,
        count: Out<usize>,
    ) {
        let (sources, (targets, edges)) = machine.edges(graph)?;
        list_edges(&[(&sources, &from), (&targets, &to)], &edges, None, &count)
    }

    fn cuGraphGetEdges_v2(
        machine,
        graph: Handle<Graph>,
        from: Out<Handle<GraphNode>>,
        to: Out<Handle<GraphNode>>,
        data: Out<EdgeData>,
        count: Out<usize>,
    ) {
        let (sources, (targets, edges)) = machine.edges(graph)?;
        list_edges(&[(&sources, &from), (&targets, &to)], &edges, Some(&data), &count)
    }

    fn cuGraphNodeGetDependencies(
        machine,
        node: Handle<GraphNode>,
        nodes: Out<Handle<GraphNode>>,
        count: Out<usize>,
    ) {
        let (found, edges) = machine.dependencies(node)?;
        list_edges(&[(&found, &nodes)], &edges, None, &count)
    }

    fn cuGraphNodeGetDependencies_v2(
        machine,
        node: Handle<GraphNode>,
        nodes: Out<Handle<GraphNode>>,
        data: Out<EdgeData>,
        count: Out<usize>,
    ) {
        let (found, edges) = machine.dependencies(node)?;
        list_edges(&[(&found, &nodes)], &edges, Some(&data), &count)
    }

    fn cuGraphNodeGetDependentNodes(
        machine,
        node: Handle<GraphNode>,
        nodes: Out<Handle<GraphNode>>,
        count: Out<usize>,
    ) {
        let (found, edges) = machine.dependent_nodes(node)?;
        list_edges(&[(&found, &nodes)], &edges, None, &count)
    }

    fn cuGraphNodeGetDependentNodes_v2(
        machine,
        node: Handle<GraphNode>,
        nodes: Out<Handle<GraphNode>>,
        data: Out<EdgeData>,
        count: Out<usize>,
    ) {
        let (found, edges) = machine.dependent_nodes(node)?;
        list_edges(&[(&found, &nodes)], &edges, Some(&data), &count)
    }

    fn cuGraphKernelNodeGetParams(machine, node: Handle<GraphNode>, params: Out<NodeParams>) {
        params.write(machine.node_params(node)?)
    }

    fn cuGraphKernelNodeGetParams_v2(machine, node: Handle<GraphNode>, params: Out<NodeParams2>) {
        params.write(NodeParams2 { first: machine.node_params(node)?, kernel: 0, context: 0 })
    }

    fn cuGraphKernelNodeSetParams(machine, node: Handle<GraphNode>, params: In<NodeParams>) {
        let work = machine.changed(node, &params.read()?)?;
        machine.set_node(node, work)
    }

    fn cuGraphKernelNodeSetParams_v2(machine, node: Handle<GraphNode>, params: In<NodeParams2>) {
        let work = machine.changed(node, &first_of(params.read()?)?)?;
        machine.set_node(node, work)
    }

    fn cuGraphExecKernelNodeSetParams(
        machine,
        exec: Handle<GraphExec>,
        node: Handle<GraphNode>,
        params: In<NodeParams>,
    ) {
        machine.set_exec_node(exec, node, &params.read()?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(
        machine,
        exec: Handle<GraphExec>,
        node: Handle<GraphNode>,
        params: In<NodeParams2>,
    ) {
        machine.set_exec_node(exec, node, &first_of(params.read()?)?)
    }

    /// Of cooperative launches, clusters, their policy and priority.
    fn cuGraphKernelNodeGetAttribute(
        machine,
        node: Handle<GraphNode>,
        id: u32,
        value: Out<AttributeValue>,
    ) {
        value.write(machine.kernel_node(node)?.attributes.of_node(id)?)
    }

    fn cuGraphKernelNodeSetAttribute(
        machine,
        node: Handle<GraphNode>,
        id: u32,
        value: In<AttributeValue>,
    ) {
        machine.set_node_attribute(node, id, &value.read()?)
    }
}
