// A program without libc in assembly: write, clock_gettime, getrandom, fork, wait4 and exit by bare instructions, two in a row, one in a loop.
// cflags: -nostdlib -static
    .globl _start
    .text
hex:                            // rdi value: written as 16 hex digits and a newline
    lea buf+16(%rip), %rsi
    mov $16, %ecx
    movb $10, (%rsi)
1:  dec %rsi
    mov %edi, %eax
    and $15, %eax
    lea digits(%rip), %rdx
    movb (%rdx,%rax), %al
    movb %al, (%rsi)
    shr $4, %rdi
    dec %ecx
    jnz 1b
    mov $1, %eax
    mov $1, %edi
    mov $17, %edx
    syscall
    cmp $17, %rax
    jne fail
    ret

_start:
    mov (%rsp), %rbx            // argc
    cmp $1, %rbx
    jne fail
    mov $39, %eax
    syscall
    mov %rax, %r12
    mov %rax, %rdi
    call hex
    mov %rsp, %rdi
    call hex
    mov $228, %eax              // clock_gettime
    mov $1, %edi
    lea time(%rip), %rsi
    syscall
    test %rax, %rax
    jnz fail
    mov time+8(%rip), %rdi
    call hex
    mov $318, %eax              // getrandom
    lea time(%rip), %rdi
    mov $8, %esi
    xor %edx, %edx
    syscall
    mov time(%rip), %rdi
    call hex
    xor %ebx, %ebx
2:  mov $110, %eax              // getppid, registers other than rax, rcx, r11 must stay
    mov $0x1234, %edi
    mov $0x5678, %r8d
    syscall
    cmp $0x1234, %edi
    jne fail
    cmp $0x5678, %r8d
    jne fail
    inc %ebx
    cmp $1000, %ebx
    jne 2b
    mov $110, %eax
    syscall
    mov $39, %eax
    syscall
    cmp %rax, %r12
    jne fail
    stc                         // flags are kept by the kernel, in r11
    mov $39, %eax
    syscall
    jnc fail
    mov $999, %eax              // no such call
    syscall
    cmp $-38, %rax
    jne fail
    mov $57, %eax               // fork
    syscall
    test %rax, %rax
    js fail
    jz child
    mov %rax, %rdi
    mov %rax, %r13
    call hex
    mov $61, %eax               // wait4
    mov %r13, %rdi
    lea status(%rip), %rsi
    xor %edx, %edx
    xor %r10d, %r10d
    syscall
    cmp %r13, %rax
    jne fail
    cmpl $0x500, status(%rip)
    jne fail
    xor %edi, %edi
    mov $231, %eax
    syscall
child:
    mov $5, %edi
    mov $231, %eax
    syscall
fail:
    mov $1, %edi
    mov $60, %eax
    syscall
    hlt

    .data
digits: .ascii "0123456789abcdef"
    .bss
buf:    .skip 32
    .balign 8
time:   .skip 16
status: .skip 8
