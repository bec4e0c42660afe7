//! Races between the warps of a block and others that access its shared memory, and the bytes of unfinished asynchronous
//! copies.
//!
//! An *agent* is whoever accesses: a warp of the block, a bulk copy ([`copier`](super::agents::copier)) or another block of the cluster
//! ([`peer`](super::agents::peer)). Time is a number that every barrier and fence increments. A warp's view says up to which time each other warp's
//! accesses are ordered before its own. A barrier of all warps orders everything: what is not later than the last one
//! races with nothing. A line whose accesses were all of the whole line has a [`Record`]; any other, a [`Mixed`] list.

use super::agents::{AGENTS, COPIERS, Clash, MAX_WARPS, Met};
use super::order::Kind;
use std::collections::HashMap;

/// In [`Record::written`]: the whole line is in flight; the line is mixed.
const IN_FLIGHT: u32 = u32::MAX - 1;
const MIXED: u32 = u32::MAX;

/// The last accesses of a whole line.
#[derive(Clone, Copy, Default)]
struct Record {
    /// When it was written, and by which agent at which instruction.
    written: u32,
    writer: u32,
    written_at: u32,
    /// When it was read, by which agents, a bit each, and at which instruction last. Of a mixed line, `read` is its place.
    read: u32,
    read_at: u32,
    readers: u64,
}

impl Record {
    /// Its last write is ordered before what `agent` does now, as is seen without the agent's view; `full` as in [`Warps`].
    #[inline(always)]
    fn is_written_before(&self, agent: usize, full: u32) -> bool {
        let (written, writer, agent) = (self.written, self.writer, agent as u32);
        written < IN_FLIGHT && (writer == agent || (written <= full && (writer | agent) < MAX_WARPS as u32))
    }

    /// No other agent read it since what is ordered before.
    #[inline(always)]
    fn is_read_before(&self, agent: usize, full: u32) -> bool {
        self.readers & !(1 << agent) == 0 || (self.read <= full && self.readers >> MAX_WARPS == 0)
    }

    /// `agent` reads the whole line. `false`: more is to be remembered than a record can.
    #[inline(always)]
    fn note_read(&mut self, agent: usize, time: u32, at: u32, full: u32) -> bool {
        let mine = 1 << agent;
        if self.read == time {
            self.readers |= mine;
        } else if (self.read <= full && self.readers >> MAX_WARPS == 0) || self.readers == mine {
            (self.read, self.readers) = (time, mine);
        } else {
            return false;
        }
        self.read_at = at;
        true
    }
}

#[derive(Default)]
struct Mixed {
    /// Bytes in flight, and which agent began the last copy at which instruction.
    in_flight: u16,
    issuer: (u32, u32),
    /// Relaxed ones in the order of their last happening.
    touches: Vec<Touch>,
}

/// Each of `agents` accessed the bytes of `mask` at `time`, the last of them at the instruction `at`.
#[derive(Clone, Copy)]
struct Touch {
    time: u32,
    agents: u64,
    mask: u16,
    kind: Kind,
    at: u32,
}

pub type View = [u32; AGENTS];

#[derive(Default)]
pub(super) struct Warps {
    /// The instruction at which accesses are made now: kept with each, for the report of a race with it.
    pub at: u32,
    all: u32,
    time: u32,
    /// Time of the last barrier of all warps.
    full: u32,
    ended: u32,
    views: Vec<View>,
    /// Of each agent: up to which time other agents' generic accesses are ordered before its asynchronous ones, by a
    /// fence.proxy.async between.
    proxied: Vec<View>,
    has_proxied: bool,
    records: Vec<Record>,
    mixed: Vec<Mixed>,
    /// How often a record became a list, which can know less of old writes.
    pub mixings: u64,
    unused: Vec<u32>,
    /// What a warp's last fence closed.
    released: Vec<Option<View>>,
    /// Views left at addresses by atomics.
    left: HashMap<u64, View>,
}

impl Warps {
    pub fn new(lines: usize, warps: usize) -> Warps {
        Warps {
            at: 0,
            all: u32::MAX >> (MAX_WARPS - warps.clamp(1, MAX_WARPS)),
            time: 1,
            full: 0,
            ended: 0,
            views: vec![[0; AGENTS]; AGENTS],
            proxied: vec![[0; AGENTS]; AGENTS],
            has_proxied: false,
            records: vec![Record::default(); lines],
            mixed: Vec::new(),
            mixings: 0,
            unused: Vec::new(),
            released: vec![None; AGENTS],
            left: HashMap::new(),
        }
    }

    /// The next block. `unfinished`: copies may still be in flight.
    pub fn reset(&mut self, unfinished: bool) {
        if unfinished {
            self.records.fill(Record::default());
            self.mixed.clear();
            self.unused.clear();
        }
        self.full = self.time;
        // What others than warps did in the last block is as old as what its warps did.
        let time = self.time;
        let (warps, others) = self.views.split_at_mut(MAX_WARPS);
        warps.iter_mut().for_each(|view| view[MAX_WARPS..].fill(time));
        others.iter_mut().for_each(|view| view.fill(time));
        self.proxied.iter_mut().for_each(|view| view.fill(time));
        self.time += 1;
        self.ended = 0;
        self.has_proxied = false;
        self.released.fill(None);
        self.left.clear();
    }

    /// The time of accesses that are made now.
    pub fn time(&self) -> u32 {
        self.time
    }

    /// The time of the last barrier of all warps.
    pub fn full(&self) -> u32 {
        self.full
    }

    /// Whether what `agent` did at `time` is ordered before what `me` does now.
    #[inline]
    pub fn knows(&self, me: usize, agent: u32, time: u32) -> bool {
        agent == me as u32
            || (time <= self.full && (agent | me as u32) < MAX_WARPS as u32)
            || self.views[me][agent as usize % AGENTS] >= time
    }

    pub fn now(&self) -> u32 {
        self.time
    }

    /// Reads by `agent` of bytes of lines; of the first that clashes, the line and what it met.
    #[inline(always)]
    pub fn read_lines(
        &mut self,
        lines: impl Iterator<Item = (usize, u16)>,
        agent: usize,
    ) -> Result<(), (usize, Clash)> {
        let (time, at, full) = (self.time, self.at, self.full);
        for (line, mask) in lines {
            let record = &mut self.records[line];
            if mask != 0xffff || !record.is_written_before(agent, full) || !record.note_read(agent, time, at, full) {
                self.read(line, mask, agent).map_err(|clash| (line, clash))?;
            }
        }
        Ok(())
    }

    /// One line.
    #[inline(never)]
    pub fn read(&mut self, line: usize, mask: u16, agent: usize) -> Result<(), Clash> {
        let record = &self.records[line];
        if mask == 0xffff && record.written < IN_FLIGHT && self.knows(agent, record.writer, record.written) {
            let (time, at, full) = (self.time, self.at, self.full);
            if self.records[line].note_read(agent, time, at, full) {
                return Ok(());
            }
        }
        self.touch(line, mask, agent, Kind::Read)
    }

    /// Whether a barrier of all warps lies after that time.
    pub fn is_closed(&self, time: u32) -> bool {
        time <= self.full
    }

    /// What an asynchronous read of whole lines that the warp `agent` asks for meets, and at which line. It leaves no mark.
    pub fn check_reads(&self, lines: &[u32], agent: usize) -> Result<(), (usize, Met)> {
        for &line in lines {
            let line = line as usize;
            self.check_read(line, agent).map_err(|clash| (line, Met::Clash(clash)))?;
            if let Some((agent, at)) = self.unproxied(line, 0xffff, agent) {
                return Err((line, Met::Unproxied { agent, at }));
            }
        }
        Ok(())
    }

    /// Of lines, those for which [`Self::check_reads`] may find something else than for the ones before: lines of a tile were
    /// written together, and what holds for one record holds for its like.
    pub fn heads(&self, lines: &[u32], heads: &mut Vec<u32>) {
        heads.clear();
        // Those of a tile are few; of more than these the last count.
        let mut likes = [(MIXED, 0); 8];
        for &line in lines {
            let record = &self.records[line as usize];
            let like = (record.written, record.writer);
            if record.written < IN_FLIGHT && likes.contains(&like) {
                continue;
            }
            likes[heads.len() % 8] = like;
            heads.push(line);
        }
    }

    /// Of one line.
    pub fn check_read(&self, line: usize, agent: usize) -> Result<(), Clash> {
        let record = &self.records[line];
        let mask = 0xffff;
        match record.written {
            IN_FLIGHT => Err(Clash::InFlight { agent: record.writer, at: record.written_at, mask }),
            MIXED => {
                let mixed = &self.mixed[record.read as usize];
                if mixed.in_flight != 0 {
                    let (agent, at) = mixed.issuer;
                    return Err(Clash::InFlight { agent, at, mask: mixed.in_flight });
                }
                let met = mixed.touches.iter().filter(|t| t.kind.writes()).find_map(|t| {
                    let mut others = (0..AGENTS as u32).filter(|other| t.agents >> other & 1 != 0);
                    others.find(|&other| !self.knows(agent, other, t.time)).map(|other| (other, t))
                });
                match met {
                    Some((agent, t)) => Err(Clash::Race { agent, at: t.at, wrote: true, mask: t.mask }),
                    None => Ok(()),
                }
            }
            written if self.knows(agent, record.writer, written) => Ok(()),
            _ => Err(Clash::Race { agent: record.writer, at: record.written_at, wrote: true, mask }),
        }
    }

    /// Writes, as [`Self::read_lines`].
    #[inline(always)]
    pub fn write_lines(
        &mut self,
        lines: impl Iterator<Item = (usize, u16)>,
        agent: usize,
    ) -> Result<(), (usize, Clash)> {
        let (now, full) = (self.written(agent), self.full);
        for (line, mask) in lines {
            let record = &mut self.records[line];
            if mask == 0xffff && record.is_written_before(agent, full) && record.is_read_before(agent, full) {
                *record = now;
            } else {
                self.write(line, mask, agent).map_err(|clash| (line, clash))?;
            }
        }
        Ok(())
    }

    /// One line.
    #[inline(never)]
    pub fn write(&mut self, line: usize, mask: u16, agent: usize) -> Result<(), Clash> {
        if mask == 0xffff && self.is_mine(line, agent) {
            self.records[line] = self.written(agent);
            return Ok(());
        }
        self.touch(line, mask, agent, Kind::Write)
    }

    /// The whole line written now.
    fn written(&self, agent: usize) -> Record {
        Record { written: self.time, writer: agent as u32, written_at: self.at, ..Record::default() }
    }

    /// No other agent accessed it since what is ordered before.
    fn is_mine(&self, line: usize, agent: usize) -> bool {
        let record = &self.records[line];
        record.written < IN_FLIGHT
            && self.knows(agent, record.writer, record.written)
            && record.is_read_before(agent, self.full)
    }

    /// An asynchronous copy that `issuer` asks for begins to write: until it ends nobody may touch the bytes.
    #[inline(always)]
    pub fn begin_copy(&mut self, line: usize, mask: u16, issuer: usize) -> Result<(), Clash> {
        let (writer, written_at, full) = (issuer as u32, self.at, self.full);
        let record = &mut self.records[line];
        if mask == 0xffff && record.is_written_before(issuer, full) && record.is_read_before(issuer, full) {
            *record = Record { written: IN_FLIGHT, writer, written_at, ..Record::default() };
            return Ok(());
        }
        self.begin_any_copy(line, mask, issuer)
    }

    #[inline(never)]
    fn begin_any_copy(&mut self, line: usize, mask: u16, issuer: usize) -> Result<(), Clash> {
        if mask != 0xffff || !self.is_mine(line, issuer) {
            self.meet(line, mask, issuer, Kind::Write)?;
        }
        let (writer, written_at) = (issuer as u32, self.at);
        if mask == 0xffff {
            self.release_mixed(line);
            self.records[line] = Record { written: IN_FLIGHT, writer, written_at, ..Record::default() };
        } else {
            let place = self.make_mixed(line);
            let mixed = &mut self.mixed[place];
            mixed.in_flight |= mask;
            mixed.issuer = (writer, written_at);
        }
        Ok(())
    }

    /// It ends, as something that `agent` wrote: the warp that waits for it, or a [`copier`](super::agents::copier).
    #[inline(always)]
    pub fn end_copy(&mut self, line: usize, mask: u16, agent: usize) {
        let time = self.time;
        let record = &mut self.records[line];
        if mask == 0xffff && record.written == IN_FLIGHT {
            // Nobody read it since it began, and by which instruction stays.
            (record.written, record.writer) = (time, agent as u32);
        } else {
            self.end_part_of_copy(line, mask, agent);
        }
    }

    #[inline(never)]
    fn end_part_of_copy(&mut self, line: usize, mask: u16, agent: usize) {
        let place = self.make_mixed(line);
        let mixed = &mut self.mixed[place];
        mixed.in_flight &= !mask;
        mixed.touches.retain(|t| t.mask & !mask != 0);
        let at = mixed.issuer.1;
        mixed.touches.push(Touch { time: self.time, agents: 1 << agent, mask, kind: Kind::Write, at });
    }

    /// Accesses of any kind, as [`Self::read_lines`].
    pub fn touch_lines(
        &mut self,
        mut lines: impl Iterator<Item = (usize, u16)>,
        agent: usize,
        kind: Kind,
    ) -> Result<(), (usize, Clash)> {
        lines.try_for_each(|(line, mask)| self.touch(line, mask, agent, kind).map_err(|clash| (line, clash)))
    }

    /// Whether an access races with what was before, of which it forgets what the access makes superfluous; the place of the line's
    /// list.
    fn meet(&mut self, line: usize, mask: u16, agent: usize, kind: Kind) -> Result<usize, Clash> {
        let record = &self.records[line];
        if record.written == IN_FLIGHT {
            return Err(Clash::InFlight { agent: record.writer, at: record.written_at, mask });
        }
        let place = self.make_mixed(line);
        let mut mixed = std::mem::take(&mut self.mixed[place]);
        let result = self.touch_mixed(&mut mixed, mask, agent, kind);
        self.mixed[place] = mixed;
        result.map(|()| place)
    }

    /// Any access, of any bytes of a line.
    pub fn touch(&mut self, line: usize, mask: u16, agent: usize, kind: Kind) -> Result<(), Clash> {
        let place = self.meet(line, mask, agent, kind)?;
        let (time, mine, at) = (self.time, 1u64 << agent, self.at);
        let touches = &mut self.mixed[place].touches;
        let same = |t: &&mut Touch| t.kind == kind && t.time == time && (t.mask == mask || t.agents == mine);
        match touches.iter_mut().find(same) {
            Some(t) if !kind.relaxed() && t.mask == mask => (t.agents, t.at) = (t.agents | mine, at),
            Some(t) if !kind.relaxed() => (t.mask, t.at) = (t.mask | mask, at),
            _ => touches.push(Touch { time, agents: mine, mask, kind, at }),
        }
        self.unmix(line, place);
        Ok(())
    }

    /// Whether it races; forgets what it makes superfluous.
    fn touch_mixed(&self, mixed: &mut Mixed, mask: u16, agent: usize, kind: Kind) -> Result<(), Clash> {
        if mixed.in_flight & mask != 0 {
            let (agent, at) = mixed.issuer;
            return Err(Clash::InFlight { agent, at, mask: mixed.in_flight & mask });
        }
        let (time, full, mine) = (self.time, self.full, 1u64 << agent);
        let touches = &mut mixed.touches;
        touches.retain(|t| t.time > full || t.agents >> MAX_WARPS != 0 || agent >= MAX_WARPS);
        let unordered = |t: &Touch| {
            (0..AGENTS as u32).filter(|other| t.agents >> other & 1 != 0).find(|&o| !self.knows(agent, o, t.time))
        };
        // All accesses of one address by atomics and the like have one order: those before this warp's last are ordered.
        let coherent = |t: &Touch| t.kind.relaxed() && t.agents == mine && t.mask & mask == mask;
        let coherent = touches.iter().rposition(coherent).unwrap_or(0);
        for (i, t) in touches.iter().enumerate() {
            if t.mask & mask != 0
                && kind.conflicts(t.kind)
                && !(t.kind.relaxed() && i < coherent)
                && let Some(other) = unordered(t)
            {
                return Err(Clash::Race { agent: other, at: t.at, wrote: t.kind.writes(), mask: t.mask & mask });
            }
        }
        match kind {
            // Whoever is ordered after this write is ordered after what came before it; and so for reads.
            Kind::Write => touches.retain(|t| t.mask & !mask != 0),
            Kind::Read => touches
                .retain(|t| t.kind != Kind::Read || t.mask & !mask != 0 || t.time == time || unordered(t).is_some()),
            _ => touches.retain(|t| t.kind != kind || t.agents != mine || t.mask & !mask != 0),
        }
        Ok(())
    }

    /// The place of the line's list, made from its record if it has none.
    fn make_mixed(&mut self, line: usize) -> usize {
        let record = self.records[line];
        if record.written == MIXED {
            return record.read as usize;
        }
        self.mixings += 1;
        let place = self.unused.pop().unwrap_or_else(|| {
            self.mixed.push(Mixed::default());
            self.mixed.len() as u32 - 1
        });
        let mixed = &mut self.mixed[place as usize];
        let (mask, full) = (0xffff, self.full);
        if record.written == IN_FLIGHT {
            mixed.in_flight = mask;
            mixed.issuer = (record.writer, record.written_at);
        } else if record.written > full || record.writer >= MAX_WARPS as u32 {
            let (agents, at) = (1 << record.writer, record.written_at);
            mixed.touches.push(Touch { time: record.written, agents, mask, kind: Kind::Write, at });
        }
        if record.read > full || record.readers >> MAX_WARPS != 0 {
            let (agents, at) = (record.readers, record.read_at);
            mixed.touches.push(Touch { time: record.read, agents, mask, kind: Kind::Read, at });
        }
        self.records[line] = Record { written: MIXED, read: place, ..Record::default() };
        place as usize
    }

    /// Back to a record when that can tell all.
    fn unmix(&mut self, line: usize, place: usize) {
        let mixed = &self.mixed[place];
        let mut record = Record::default();
        if mixed.in_flight != 0 || mixed.touches.len() > 2 {
            return;
        }
        for t in &mixed.touches {
            match t.kind {
                Kind::Write if t.mask == 0xffff && record.written == 0 && t.agents.is_power_of_two() => {
                    (record.written, record.written_at) = (t.time, t.at);
                    record.writer = t.agents.trailing_zeros();
                }
                Kind::Read if t.mask == 0xffff && record.read == 0 => {
                    (record.read, record.read_at) = (t.time, t.at);
                    record.readers = t.agents;
                }
                _ => return,
            }
        }
        self.release_mixed(line);
        self.records[line] = record;
    }

    fn release_mixed(&mut self, line: usize) {
        if self.records[line].written == MIXED {
            let place = self.records[line].read;
            let mixed = &mut self.mixed[place as usize];
            mixed.touches.clear();
            mixed.in_flight = 0;
            self.unused.push(place);
        }
    }

    /// `arrived` signalled, `waited` also waited: what any of them did before is ordered before what these do from now on.
    pub fn barrier(&mut self, arrived: u32, waited: u32) {
        let time = self.time;
        self.time += 1;
        let is_full = (waited | self.ended) & self.all == self.all;
        let of = |bits: u32| (0..MAX_WARPS).filter(move |warp| bits >> warp & 1 != 0);
        // What bulk copies and other blocks did, and what fences of proxies reached, has no part in `full`.
        if self.has_proxied || !is_full {
            let mut joined = [0; AGENTS];
            let mut proxied = [0; AGENTS];
            for warp in of(arrived | waited) {
                join(&mut joined, &self.views[warp]);
                joined[warp] = time;
                join(&mut proxied, &self.proxied[warp]);
            }
            for warp in of(waited) {
                self.views[warp] = joined;
                self.proxied[warp] = proxied;
            }
        }
        if is_full {
            self.full = time;
        }
    }

    /// All threads of the warp have ended: barriers no longer wait for it.
    pub fn end(&mut self, warp: usize) {
        self.ended |= 1 << warp;
    }

    /// What `agent` knows now, itself included: what it hands on by a release. Time goes on.
    pub fn release_view(&mut self, agent: usize) -> View {
        let mut view = self.views[agent];
        if agent < MAX_WARPS {
            view[..MAX_WARPS].iter_mut().for_each(|time| *time = (*time).max(self.full));
        }
        view[agent] = self.time;
        self.time += 1;
        view
    }

    /// What is ordered before its asynchronous accesses.
    pub fn proxied_view(&self, agent: usize) -> View {
        self.proxied[agent]
    }

    /// `agent` takes up what others released.
    pub fn acquire_view(&mut self, agent: usize, view: &View, proxied: &View) {
        self.has_proxied = true;
        join(&mut self.views[agent], view);
        join(&mut self.proxied[agent], proxied);
    }

    /// fence.proxy.async: what is ordered before this warp's generic accesses is so before asynchronous ones, too.
    pub fn fence_proxy(&mut self, warp: usize) {
        self.has_proxied = true;
        let view = self.release_view(warp);
        join(&mut self.proxied[warp], &view);
    }

    /// The agent that wrote bytes of `mask` of the line by the generic proxy, when no fence.proxy.async lies between that and
    /// an asynchronous access that `agent` asks for: who, and at which instruction.
    pub fn unproxied(&self, line: usize, mask: u16, agent: usize) -> Option<(u32, u32)> {
        let record = &self.records[line];
        let is_generic = |writer: u32| writer < MAX_WARPS as u32 || writer >= (MAX_WARPS + COPIERS) as u32;
        let known = |writer: u32, time: u32| self.proxied[agent][writer as usize % AGENTS] >= time;
        if record.written == IN_FLIGHT || record.written == 0 {
            return None;
        }
        if record.written != MIXED {
            let writer = record.writer;
            return (is_generic(writer) && !known(writer, record.written)).then_some((writer, record.written_at));
        }
        let touches = &self.mixed[record.read as usize].touches;
        touches.iter().filter(|t| t.kind.writes() && t.mask & mask != 0).find_map(|t| {
            let writer = (0..AGENTS as u32).filter(|other| t.agents >> other & 1 != 0);
            writer.filter(|&w| is_generic(w)).find(|&w| !known(w, t.time)).map(|w| (w, t.at))
        })
    }

    pub fn fence(&mut self, warp: usize) {
        self.released[warp] = Some(self.release_view(warp));
    }

    /// An atomic or a relaxed store: leaves what the last fence closed.
    pub fn release(&mut self, warp: usize, address: u64) {
        if let Some(Some(released)) = self.released.get(warp) {
            join(self.left.entry(address).or_insert([0; AGENTS]), released);
            self.has_proxied |= warp >= MAX_WARPS;
        }
    }

    /// An atomic or a relaxed load takes up what others left.
    pub fn acquire(&mut self, warp: usize, address: u64) {
        if let Some(left) = self.left.get(&address) {
            join(&mut self.views[warp], left);
        }
    }
}

pub(super) fn join(view: &mut View, other: &View) {
    for (mine, theirs) in view.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}
