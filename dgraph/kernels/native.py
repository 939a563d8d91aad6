"""Generated source to machine code.

Source is lowered to LLVM directly, or through Numba, which reads the same text and serves as the reference: slower, and
the same machine code but for the order of instructions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Literal

import llvmlite.binding as llvm

from dgraph.kernels.elf import AddressOf
from dgraph.kernels.load import ENTRY

Route = Literal["direct", "numba"]


def _new_machine() -> Any:
    """A description of this machine for LLVM. An engine owns the one that it is given and destroys it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic", jit=True
    )


@functools.cache
def _machine() -> Any:
    return _new_machine()


def host_name() -> str:
    """This platform, its processor and its features, as LLVM tells them."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"


def compile_source(source: str, through: Route = "direct") -> bytes:
    """Object code of a program whose entry is `int64 entry(int64 *table)`."""
    object_code: bytes = _machine().emit_object(optimised_module(source, through))
    return object_code


def compile_lightly(source: str) -> bytes:
    """Object code of a program that is written in vectors already: names go to registers, and little else is done."""
    (text,) = _lower(source, "direct")
    module = llvm.parse_assembly(text)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.run(module, llvm.create_pass_builder(_machine(), llvm.create_pipeline_tuning_options(speed_level=1)))
    object_code: bytes = _machine().emit_object(module)
    return object_code


def llvm_text(source: str) -> str:
    """The optimised LLVM code of a program, for a reader."""
    return str(optimised_module(source))


def optimised_module(source: str, through: Route = "direct") -> Any:
    """Lower a program, link its functions and run LLVM's optimiser once."""
    first, *others = _lower(source, through)
    module = llvm.parse_assembly(first)
    for text in others:
        module.link_in(llvm.parse_assembly(text))
    return optimise(module)


def _lower(source: str, through: Route) -> list[str]:
    if through == "numba":
        from dgraph.kernels.numba_compiler import lower

        return lower(source, ENTRY)
    from dgraph.kernels.translator import translate

    return [translate(source, ENTRY)]


def optimise(module: Any) -> Any:
    """Run LLVM's optimiser and drop everything that the entry does not need."""
    machine = _machine()
    vector_forms = []
    for function in module.functions:
        if function.is_declaration or function.name == ENTRY:
            continue
        if function.linkage == llvm.Linkage.weak_odr:
            # Versions for vectors have no callers before the vectoriser runs.
            function.linkage = llvm.Linkage.external
            vector_forms.append(function.name)
        else:
            function.linkage = llvm.Linkage.internal
    for variable in module.global_variables:
        if not variable.is_declaration and not variable.name.startswith("llvm."):
            variable.linkage = llvm.Linkage.internal
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.loop_interleaving = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    for name in vector_forms:
        module.get_function(name).linkage = llvm.Linkage.internal
    remover = llvm.create_new_module_pass_manager()
    remover.add_global_dead_code_eliminate_pass()
    remover.run(module, builder)
    return module


def engine_of(object_code: bytes, address_of: AddressOf, names: Iterable[str]) -> Any:
    """LLVM's own loader with object code, for what `elf` does not know. The code may call functions of these names."""
    for name in names:
        address = address_of(name)
        if address is not None:
            llvm.add_symbol(name, address)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _new_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
    engine.finalize_object()
    return engine


def compile_text(text: str) -> bytes:
    """Object code of functions given as LLVM text, as they are: without the optimiser."""
    object_code: bytes = _machine().emit_object(llvm.parse_assembly(text))
    return object_code
