//! The exactness suite that every backend passes, on the GPU.

use super::on;

macro_rules! suite {
    ($($file:ident: $($test:ident)*;)*) => {
        $($(#[test]
        fn $test() {
            on(crate::$file::$test);
        })*)*
    };
}

suite! {
    cpu_exact:
        every_operation_in_every_case_and_its_gradients
        every_elementwise_operation_on_hostile_numbers
        integers_masks_and_constants
        reductions_over_every_set_of_axes
        a_sum_of_more_than_a_block_of_blocks
        rows_of_every_length
        products_of_every_shape_and_orientation
        attention_of_every_kind
        random_numbers_depend_on_their_place_alone
        moved_elements_keep_their_bits;
    cpu_ops:
        convolutions_of_every_geometry
        random_convolutions
        running_sums_along_every_axis
        gathered_and_scattered_along_every_axis
        the_largest_of_every_number;
    cpu_fuzz:
        random_graphs_have_the_bits_of_the_reference
        an_attention_graph_with_shared_operands;
}
