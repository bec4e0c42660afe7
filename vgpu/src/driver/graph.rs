//! Graphs: work with its order, replayed at will. Kernel parameters are those of the time of the capture.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::Out;
use super::context::Context;
use super::error::{Code, Outcome, fail};
use super::handle::Handle;
use super::stream::Stream;
use super::work::{Step, Work};
use super::{Machine, driver_functions};

/// One piece of work and what it comes after.
#[derive(Clone)]
pub struct Node {
    pub work: Work,
    pub after: Vec<Edge>,
}

/// From a node (by its number, lower than that of the node that has the edge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub from: usize,
    /// From kernel to kernel: the second may begin before the first has ended.
    pub programmatic: bool,
}

pub struct Graph {
    /// The ordinal of the device that its work is for.
    device: usize,
    pub nodes: Vec<Node>,
    pub handles: Vec<Handle<GraphNode>>,
}

/// A graph made ready: its work in the order of execution.
pub struct GraphExec {
    pub context: Handle<Context>,
    pub nodes: Vec<Node>,
    work: Arc<[Step]>,
    flags: u64,
}

/// What a node's handle stands for.
pub struct GraphNode {
    pub graph: Handle<Graph>,
    pub place: usize,
}

/// CUgraphExecUpdateResult
const UPDATE_SUCCESS: u32 = 0;
const UPDATE_TOPOLOGY: u32 = 2;
const UPDATE_NODE_TYPE: u32 = 3;

/// CUgraphExecUpdateResultInfo
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UpdateInfo {
    result: u32,
    error_node: usize,
    error_from_node: usize,
}

/// An order that the edges allow: lowest number first, or highest when `reverse`, so that a missing edge shows.
fn order(nodes: &[Node], reverse: bool) -> Vec<usize> {
    let mut done = vec![false; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    while order.len() < nodes.len() {
        let ready = |&n: &usize| !done[n] && nodes[n].after.iter().all(|edge| done[edge.from]);
        let next = if reverse { (0..nodes.len()).rev().find(ready) } else { (0..nodes.len()).find(ready) };
        // Edges lead from lower to higher numbers, so that there always is one.
        let Some(next) = next else { break };
        done[next] = true;
        order.push(next);
    }
    order
}

fn steps(nodes: &[Node], order: Vec<usize>) -> Arc<[Step]> {
    let mut places = vec![0; nodes.len()];
    order.iter().enumerate().for_each(|(place, &node)| places[node] = place);
    let step = |node: &Node| {
        let overlaps = node.after.iter().filter(|edge| edge.programmatic).map(|edge| places[edge.from]).collect();
        Step { work: node.work.clone(), overlaps }
    };
    order.iter().map(|&node| step(&nodes[node])).collect()
}

impl Machine {
    pub(super) fn new_graph(&mut self, device: usize, nodes: Vec<Node>) -> Handle<Graph> {
        let count = nodes.len();
        let graph = self.graphs.insert(Graph { device, nodes, handles: Vec::new() });
        let handles = (0..count).map(|place| self.graph_nodes.insert(GraphNode { graph, place })).collect();
        if let Some(new) = self.graphs.find_mut(graph) {
            new.handles = handles;
        }
        graph
    }

    /// The work of a graph's nodes in the order that their device's schedule gives it.
    fn ready(&self, device: usize, nodes: &[Node]) -> Arc<[Step]> {
        // In order of capture when nothing says otherwise: then no search is needed.
        if self.devices[device].options.schedule.is_multiple_of(2) {
            return steps(nodes, (0..nodes.len()).collect());
        }
        steps(nodes, order(nodes, true))
    }

    /// Makes an executable graph ready again, after its nodes changed.
    pub(super) fn ready_again(&mut self, exec: Handle<GraphExec>) -> Outcome {
        let GraphExec { context, nodes, .. } = self.graph_execs.get(exec)?;
        let work = self.ready(self.device_of(*context)?.ordinal, nodes);
        self.graph_execs.get_mut(exec)?.work = work;
        Ok(())
    }

    fn instantiate(&mut self, answer: &Out<Handle<GraphExec>>, graph: Handle<Graph>, flags: u64) -> Outcome {
        let context = self.current()?;
        let graph = self.graphs.get(graph)?;
        self.check_same_device("a graph", graph.device, context)?;
        // AUTO_FREE_ON_LAUNCH 1, UPLOAD 2, DEVICE_LAUNCH 4, USE_NODE_PRIORITY 8.
        if flags & !0b1011 != 0 {
            return fail(Code::INVALID_VALUE, format!("instantiation flags {flags:#x}: device launch is not emulated"));
        }
        if answer.is_null() {
            return fail(Code::INVALID_VALUE, "null pointer where the executable graph should go");
        }
        let (nodes, work) = (graph.nodes.clone(), self.ready(graph.device, &graph.nodes));
        answer.write(self.graph_execs.insert(GraphExec { context, nodes, work, flags }))
    }

    /// Takes over the parameters of a graph of the same form. The answer: CUgraphExecUpdateResult, and the node at fault.
    fn update(&mut self, exec: Handle<GraphExec>, graph: Handle<Graph>) -> Outcome<(u32, usize)> {
        let new = self.graphs.get(graph)?;
        let GraphExec { context, nodes: old, .. } = self.graph_execs.get(exec)?;
        self.check_same_device("a graph", new.device, *context)?;
        if new.nodes.len() != old.len() {
            return Ok((UPDATE_TOPOLOGY, 0));
        }
        for ((new_node, old_node), handle) in new.nodes.iter().zip(old).zip(&new.handles) {
            if new_node.after != old_node.after {
                return Ok((UPDATE_TOPOLOGY, handle.0));
            }
            if new_node.work.node_type() != old_node.work.node_type() {
                return Ok((UPDATE_NODE_TYPE, handle.0));
            }
        }
        let (nodes, work) = (new.nodes.clone(), self.ready(new.device, &new.nodes));
        let exec = self.graph_execs.get_mut(exec)?;
        exec.nodes = nodes;
        exec.work = work;
        Ok((UPDATE_SUCCESS, 0))
    }
}

/// As many handles as there is room for, the rest null; the count that there is.
fn list(handles: &[Handle<GraphNode>], answer: &Out<Handle<GraphNode>>, count: &Out<usize>) -> Outcome {
    if answer.is_null() {
        return count.write(handles.len());
    }
    let room = count.read()?;
    answer.write_all(&handles[..room.min(handles.len())])?;
    count.write(room.min(handles.len()))
}

driver_functions! {
    table table;

    fn cuGraphInstantiateWithFlags(machine, answer: Out<Handle<GraphExec>>, graph: Handle<Graph>, flags: u64) {
        machine.instantiate(&answer, graph, flags)
    }

    fn cuGraphInstantiate_v2(
        machine,
        answer: Out<Handle<GraphExec>>,
        graph: Handle<Graph>,
        error_node: Out<Handle<GraphNode>>,
        _log: Out<c_char>,
        _size: usize,
    ) {
        error_node.write_if_wanted(Handle::NULL);
        machine.instantiate(&answer, graph, 0)
    }

    fn cuGraphLaunch(machine, exec: Handle<GraphExec>, given: Handle<Stream>) {
        let GraphExec { context, work, .. } = machine.graph_execs.get(exec)?;
        let (device, work) = (machine.device_of(*context)?.ordinal, work.clone());
        let stream = machine.stream(given)?;
        machine.check_same_device("a graph", device, machine.streams.get(stream)?.context)?;
        machine.submit(stream, Work::Graph(work))
    }

    /// Nothing to move: a check of both handles.
    fn cuGraphUpload(machine, exec: Handle<GraphExec>, given: Handle<Stream>) {
        machine.graph_execs.get(exec)?;
        machine.stream(given)?;
        Ok(())
    }

    fn cuGraphDestroy(machine, graph: Handle<Graph>) {
        for node in machine.graphs.remove(graph)?.handles {
            machine.graph_nodes.remove(node)?;
        }
        Ok(())
    }

    fn cuGraphExecDestroy(machine, exec: Handle<GraphExec>) {
        machine.graph_execs.remove(exec)?;
        Ok(())
    }

    fn cuGraphExecGetFlags(machine, exec: Handle<GraphExec>, flags: Out<u64>) {
        flags.write(machine.graph_execs.get(exec)?.flags)
    }

    fn cuGraphExecUpdate(
        machine,
        exec: Handle<GraphExec>,
        graph: Handle<Graph>,
        error_node: Out<usize>,
        result: Out<u32>,
    ) {
        let (found, node) = machine.update(exec, graph)?;
        error_node.write_if_wanted(node);
        result.write_if_wanted(found);
        if found != UPDATE_SUCCESS {
            return fail(Code::GRAPH_EXEC_UPDATE_FAILURE, "the new graph has another form");
        }
        Ok(())
    }

    fn cuGraphExecUpdate_v2(machine, exec: Handle<GraphExec>, graph: Handle<Graph>, info: Out<UpdateInfo>) {
        let (result, error_node) = machine.update(exec, graph)?;
        info.write_if_wanted(UpdateInfo { result, error_node, error_from_node: 0 });
        if result != UPDATE_SUCCESS {
            return fail(Code::GRAPH_EXEC_UPDATE_FAILURE, "the new graph has another form");
        }
        Ok(())
    }

    fn cuGraphGetNodes(machine, graph: Handle<Graph>, nodes: Out<Handle<GraphNode>>, count: Out<usize>) {
        list(&machine.graphs.get(graph)?.handles, &nodes, &count)
    }

    fn cuGraphGetRootNodes(machine, graph: Handle<Graph>, nodes: Out<Handle<GraphNode>>, count: Out<usize>) {
        let graph = machine.graphs.get(graph)?;
        let roots: Vec<_> =
            graph.handles.iter().zip(&graph.nodes).filter(|(_, n)| n.after.is_empty()).map(|(h, _)| *h).collect();
        list(&roots, &nodes, &count)
    }

    /// CUgraphNodeType.
    fn cuGraphNodeGetType(machine, node: Handle<GraphNode>, kind: Out<u32>) {
        let GraphNode { graph, place } = machine.graph_nodes.get(node)?;
        kind.write(machine.graphs.get(*graph)?.nodes[*place].work.node_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_runs_in_an_order_that_its_edges_allow() {
        // 0 → 1 → 3, 0 → 2 → 3.
        let edges: [&[usize]; 4] = [&[], &[0], &[0], &[1, 2]];
        let edge = |&from| Edge { from, programmatic: from == 1 };
        let nodes = edges.map(|after| Node { work: Work::Nothing, after: after.iter().map(edge).collect() });
        assert_eq!(order(&nodes, false), [0, 1, 2, 3]);
        assert_eq!(order(&nodes, true), [0, 2, 1, 3]);
        // Node 3 may overlap node 1, which runs third.
        let overlaps: Vec<Vec<usize>> = steps(&nodes, order(&nodes, true)).iter().map(|s| s.overlaps.clone()).collect();
        assert_eq!(overlaps, [vec![], vec![], vec![], vec![2]]);
    }
}
