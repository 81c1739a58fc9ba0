//! One trace: code from an address on, along the branches that are not taken, until it leaves by a
//! jump that always goes elsewhere. A function over bytes.

use super::check::OPEN_GATE;
use super::emit::{Emit, SLOTS};
use super::{Exit, Nature};
use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, FlowControl, Instruction, InstructionInfoFactory,
    MemoryOperand, Mnemonic, OpKind, Register, RflagsBits,
};
use scribe_abi::{AGENT_END, STUBS};

/// Most instructions of a trace.
const LONGEST: usize = 96;
/// The same for code that may change at any time, and is compared before it runs.
const LONGEST_VOLATILE: usize = 12;

/// A jump to translated code of `target`, which is to be filled in.
pub struct Link {
    /// Address in the program.
    pub target: u64,
    /// Address of the jump's 32-bit distance.
    pub at: u32,
}

/// A translated trace.
pub struct Trace {
    /// Its code.
    pub bytes: Vec<u8>,
    /// Jumps that lead to other traces.
    pub links: Vec<Link>,
    /// Traps in it, by address.
    pub exits: Vec<(u32, Exit)>,
    /// Addresses in the program of its instructions, and where they stand.
    pub instructions: Vec<(u64, u32)>,
    /// First address behind the program's code that it was made of.
    pub end: u64,
    /// Nobody needs the flags at its beginning.
    pub free_flags: bool,
}

/// Where a trace is to come, and what must hold for it.
pub struct Place<'a> {
    /// Its address.
    pub base: u32,
    /// Address of the table of lookups.
    pub table: super::Table,
    /// Whether the code may change while it is used.
    pub nature: Nature,
    /// Whether there is, or should be, another trace from this address on.
    pub ends_at: &'a dyn Fn(u64) -> bool,
    /// With a jump at its head that can be changed.
    pub gate: bool,
}

/// Translates from `start` on; `code` is what stands there, as far as it can be read.
pub fn translate(start: u64, code: &[u8], place: &Place) -> Trace {
    let mut builder = Builder {
        emit: Emit::new(place.base),
        links: Vec::new(),
        exits: Vec::new(),
        instructions: Vec::new(),
        literals: Vec::new(),
        table: place.table,
        info: InstructionInfoFactory::new(),
    };
    if place.gate {
        builder.emit.bytes(&OPEN_GATE);
    }
    let most = match place.nature {
        Nature::Volatile => LONGEST_VOLATILE,
        _ => LONGEST,
    };
    let list = sweep(start, code, most, place.ends_at);
    if place.nature == Nature::Volatile {
        let len = list.iter().map(Instruction::len).sum::<usize>();
        builder.compare(start, place.base, &code[..len.min(code.len())]);
    }
    let mut next = start;
    let mut open = true;
    for instruction in &list {
        builder
            .instructions
            .push((instruction.ip(), builder.emit.here()));
        let from = (instruction.ip() - start) as usize;
        next = instruction.next_ip();
        open = builder.instruction(instruction, &code[from..from + instruction.len()]);
        if !open {
            break;
        }
    }
    if list.is_empty() {
        builder.special(start);
    } else if open {
        builder.jump(next);
    }
    let free_flags = free_flags(&list);
    let (bytes, links, exits, instructions) = builder.finish();
    Trace {
        bytes,
        links,
        exits,
        instructions,
        end: next,
        free_flags,
    }
}

/// Whether these instructions write all status flags before one of them reads any.
fn free_flags(list: &[Instruction]) -> bool {
    let status = RflagsBits::OF
        | RflagsBits::SF
        | RflagsBits::ZF
        | RflagsBits::AF
        | RflagsBits::CF
        | RflagsBits::PF;
    let mut open = status;
    for i in list {
        if i.flow_control() != FlowControl::Next || i.rflags_read() & open != 0 {
            return false;
        }
        // By nothing they change nothing.
        let shifts = matches!(
            i.mnemonic(),
            Mnemonic::Shl
                | Mnemonic::Shr
                | Mnemonic::Sal
                | Mnemonic::Sar
                | Mnemonic::Rol
                | Mnemonic::Ror
                | Mnemonic::Rcl
                | Mnemonic::Rcr
                | Mnemonic::Shld
                | Mnemonic::Shrd
        );
        if !shifts && !i.is_string_instruction() {
            open &= !i.rflags_modified();
        }
        if open == 0 {
            return true;
        }
    }
    false
}

/// Decodes until the trace has to end.
fn sweep(start: u64, code: &[u8], most: usize, ends_at: &dyn Fn(u64) -> bool) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut list = Vec::new();
    while decoder.can_decode() && list.len() < most {
        if !list.is_empty() && ends_at(decoder.ip()) {
            break;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            // Cut off at an unreadable page, or no instruction: found out when the task gets there.
            break;
        }
        list.push(instruction);
        if !matches!(
            instruction.flow_control(),
            FlowControl::Next | FlowControl::ConditionalBranch
        ) {
            break;
        }
    }
    list
}

struct Builder {
    emit: Emit,
    links: Vec<Link>,
    exits: Vec<(u32, Exit)>,
    instructions: Vec<(u64, u32)>,
    /// Eight-byte values behind the code, and the addresses of the distances that lead to them.
    literals: Vec<(u32, u64)>,
    table: super::Table,
    info: InstructionInfoFactory,
}

impl Builder {
    /// False: the trace ends with it.
    fn instruction(&mut self, i: &Instruction, bytes: &[u8]) -> bool {
        match i.flow_control() {
            FlowControl::Next => match i.mnemonic() {
                Mnemonic::Cpuid
                | Mnemonic::Rdtsc
                | Mnemonic::Rdtscp
                | Mnemonic::Syscall
                | Mnemonic::Hlt => {
                    self.special(i.ip());
                    false
                }
                _ if i.is_ip_rel_memory_operand() => self.relative(i),
                _ => {
                    self.emit.bytes(bytes);
                    true
                }
            },
            FlowControl::ConditionalBranch => {
                self.conditional(i, bytes);
                true
            }
            FlowControl::UnconditionalBranch if is_near(i) => {
                self.jump(i.near_branch_target());
                false
            }
            FlowControl::Call if is_near(i) => {
                self.push(i.next_ip());
                self.jump(i.near_branch_target());
                false
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall => {
                if leads_to_stub(i) || !self.load_target(i) {
                    // A patched place, or a far jump.
                    self.special(i.ip());
                } else {
                    if i.flow_control() == FlowControl::IndirectCall {
                        self.push(i.next_ip());
                    }
                    self.look_up();
                }
                false
            }
            FlowControl::Return if matches!(i.code(), Code::Retnq | Code::Retnq_imm16) => {
                self.emit.store_rcx(SLOTS[0]);
                self.emit.bytes(&[0x59]); // pop %rcx
                if i.code() == Code::Retnq_imm16 {
                    // lea imm(%rsp), %rsp
                    self.emit.bytes(&[0x48, 0x8d, 0xa4, 0x24]);
                    self.emit.word(u32::from(i.immediate16()));
                }
                self.look_up();
                false
            }
            _ => {
                self.special(i.ip());
                false
            }
        }
    }

    /// A trap at which the task stands as at `ip` in the program.
    fn special(&mut self, ip: u64) {
        self.trap(Exit::Special { ip });
        // So that there is room for a jump, as everywhere.
        self.emit.bytes(&[0xcc; 4]);
    }

    fn trap(&mut self, exit: Exit) {
        self.exits.push((self.emit.here(), exit));
        self.emit.bytes(&[0xcc]);
    }

    fn jump(&mut self, target: u64) {
        self.emit.bytes(&[0xe9]);
        self.link(target);
    }

    fn link(&mut self, target: u64) {
        let at = self.emit.here();
        self.links.push(Link { target, at });
        self.emit.word(0);
    }

    fn conditional(&mut self, i: &Instruction, bytes: &[u8]) {
        let target = i.near_branch_target();
        match i.condition_code() as u8 {
            // iced numbers them from 1 on, in the order of the opcodes.
            cc @ 1..=16 if !i.is_jcx_short() && !i.is_loop() && !i.is_loopcc() => {
                self.emit.bytes(&[0x0f, 0x80 + cc - 1]);
                self.link(target);
            }
            _ => {
                // jrcxz, loop: they have a short distance only.
                self.emit.bytes(&bytes[..bytes.len() - 1]);
                self.emit.bytes(&[2, 0xeb, 5]);
                self.jump(target);
            }
        }
    }

    /// push of a 64-bit constant, without touching registers or flags.
    fn push(&mut self, value: u64) {
        self.emit.bytes(&[0xff, 0x34, 0x25]);
        self.literals.push((self.emit.here(), value));
        self.emit.word(0);
    }

    /// An instruction with an operand relative to its address: the address goes to a register that it
    /// does not use. False if there is none, or it cannot be encoded so.
    fn relative(&mut self, i: &Instruction) -> bool {
        let target = i.ip_rel_memory_address();
        if i.mnemonic() == Mnemonic::Lea && i.op0_register().is_gpr64() {
            self.emit.load(number(i.op0_register()), target);
            return true;
        }
        let used: Vec<Register> = self
            .info
            .info(i)
            .used_registers()
            .iter()
            .map(|used| used.register().full_register())
            .collect();
        let free = [
            Register::RCX,
            Register::RDX,
            Register::RAX,
            Register::RSI,
            Register::RDI,
            Register::RBX,
            Register::R8,
        ];
        let Some(scratch) = free.into_iter().find(|reg| !used.contains(reg)) else {
            self.special(i.ip());
            return false;
        };
        let mut changed = *i;
        changed.set_memory_base(scratch);
        changed.set_memory_displacement64(0);
        changed.set_memory_displ_size(0);
        let Some(bytes) = encode(&changed) else {
            self.special(i.ip());
            return false;
        };
        let number = number(scratch);
        self.emit.store(number, SLOTS[0]);
        self.emit.load(number, target);
        self.emit.bytes(&bytes);
        self.emit.restore(number, SLOTS[0]);
        true
    }

    /// rcx, which is kept, becomes the target of an indirect jump or call.
    fn load_target(&mut self, i: &Instruction) -> bool {
        let load = match i.op0_kind() {
            OpKind::Register if i.op0_register().is_gpr64() => {
                Instruction::with2(Code::Mov_r64_rm64, Register::RCX, i.op0_register())
            }
            OpKind::Memory if matches!(i.code(), Code::Jmp_rm64 | Code::Call_rm64) => {
                if i.is_ip_rel_memory_operand() {
                    self.emit.store_rcx(SLOTS[0]);
                    self.emit.load(1, i.ip_rel_memory_address());
                    self.emit.bytes(&[0x48, 0x8b, 0x09]); // mov (%rcx), %rcx
                    return true;
                }
                let operand = MemoryOperand::new(
                    i.memory_base(),
                    i.memory_index(),
                    i.memory_index_scale(),
                    i.memory_displacement64() as i64,
                    i.memory_displ_size(),
                    false,
                    i.segment_prefix(),
                );
                Instruction::with2(Code::Mov_r64_rm64, Register::RCX, operand)
            }
            _ => return false,
        };
        let Some(bytes) = load.ok().and_then(|load| encode(&load)) else {
            return false;
        };
        self.emit.store_rcx(SLOTS[0]);
        self.emit.bytes(&bytes);
        true
    }

    /// Goes to the translation of the address in rcx; the program's rcx is in the first slot. No
    /// flags are touched.
    fn look_up(&mut self) {
        let e = &mut self.emit;
        e.store(0, SLOTS[1]);
        e.store_rcx(SLOTS[2]);
        e.bytes(&[0x0f, 0xb7, 0xc1]); // movzwl %cx, %eax
        e.bytes(&[0x48, 0x8b, 0x04, 0xc5]); // mov keys(,%rax,8), %rax
        e.word(self.table.keys);
        e.bytes(&[0x48, 0x8d, 0x0c, 0x01]); // lea (%rcx,%rax), %rcx
        e.bytes(&[0xe3, 1]); // jrcxz
        self.trap(Exit::Lookup);
        let e = &mut self.emit;
        e.bytes(&[0x0f, 0xb7, 0x0c, 0x25]); // movzwl slot, %ecx
        e.word(SLOTS[2]);
        e.bytes(&[0x8b, 0x04, 0x8d]); // mov values(,%rcx,4), %eax
        e.word(self.table.values);
        e.store(0, SLOTS[3]);
        e.restore(0, SLOTS[1]);
        e.restore(1, SLOTS[0]);
        e.bytes(&[0xff, 0x24, 0x25]); // jmp *slot
        e.word(SLOTS[3]);
    }

    /// Compares the program's bytes with those that the trace is made of.
    fn compare(&mut self, start: u64, head: u32, bytes: &[u8]) {
        self.emit.store_rcx(SLOTS[0]);
        self.emit.store(0, SLOTS[1]);
        let mut at = 0;
        // Words of eight bytes; the last one may overlap, or reach behind what is compared.
        while at < bytes.len() {
            let left = bytes.len() - at;
            let (from, width) = match left {
                8.. => (at, 8),
                4.. => (at, 4),
                _ => (at, 1),
            };
            let mut word = [0; 8];
            word[..width].copy_from_slice(&bytes[from..from + width]);
            let negative = u64::from_le_bytes(word).wrapping_neg();
            self.emit.load(1, start + from as u64);
            match width {
                8 => self.emit.bytes(&[0x48, 0x8b, 0x01]),
                4 => self.emit.bytes(&[0x8b, 0x01]),
                _ => self.emit.bytes(&[0x0f, 0xb6, 0x01]),
            }
            self.emit.load(1, negative);
            self.emit.bytes(&[0x48, 0x8d, 0x0c, 0x01]); // lea (%rcx,%rax), %rcx
            self.emit.bytes(&[0xe3, 1]);
            self.trap(Exit::Stale { ip: start, head });
            at += width;
        }
        self.emit.restore(0, SLOTS[1]);
        self.emit.restore(1, SLOTS[0]);
    }

    fn finish(mut self) -> Parts {
        for (at, value) in std::mem::take(&mut self.literals) {
            let here = self.emit.here();
            self.emit.bytes(&value.to_le_bytes());
            self.emit.patch(at, here);
        }
        (
            self.emit.finish(),
            self.links,
            self.exits,
            self.instructions,
        )
    }
}

/// Code, links, exits and instructions.
type Parts = (Vec<u8>, Vec<Link>, Vec<(u32, Exit)>, Vec<(u64, u32)>);

fn is_near(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::NearBranch64
}

/// Whether it is the jump over a patched place.
fn leads_to_stub(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::Memory
        && i.memory_base() == Register::None
        && i.memory_index() == Register::None
        && (STUBS..AGENT_END).contains(&i.memory_displacement64())
}

fn number(register: Register) -> u8 {
    (register as u32 - Register::RAX as u32) as u8
}

fn encode(instruction: &Instruction) -> Option<Vec<u8>> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, 0).ok()?;
    Some(encoder.take_buffer())
}
